"""Connections go to an address that was checked, and certificates are still checked against the name."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer, body, trickle

from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.errors import FetchError

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")


@pytest.fixture
def port(fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The fault server with a certificate for pictures.example, which is trusted; every name is 127.0.0.1."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=pictures.example"]
    command += ["-addext", "subjectAltName=DNS:pictures.example"]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    fault_server.socket = context.wrap_socket(fault_server.socket, server_side=True, do_handshake_on_connect=False)
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, port, *args, **options: real("127.0.0.1", port, *args, **options)
    )
    return fault_server.server_address[1]


def fetch(url: str, **options: Any) -> bytes:
    with HttpClient(allow_private=True, timeout=(2.0, 0.3), backoff=0.01, retries=1) as client:
        return client.fetch(url, max_bytes=100, **{"deadline_seconds": 5, **options})[0]


def test_the_certificate_must_be_of_the_name_in_the_url(fault_server: FaultServer, port: int) -> None:
    fault_server.serve("/a.jpg", body(b"picture"))
    assert fetch(f"https://pictures.example:{port}/a.jpg") == b"picture"
    for host in ("other.example", "127.0.0.1"):
        with pytest.raises(FetchError) as caught:
            fetch(f"https://{host}:{port}/a.jpg")
        assert (caught.value.reason, caught.value.permanent) == ("no secure connection", False)
    assert len(fault_server.requests) == 1


def test_a_trickling_head_is_given_up_over_tls_too(fault_server: FaultServer, port: int) -> None:
    fault_server.serve("/a.jpg", trickle(b"x" * 1000, 0.02, head=True))
    start = time.monotonic()
    with pytest.raises(FetchError, match="timed out"):
        fetch(f"https://pictures.example:{port}/a.jpg", deadline_seconds=0.5)
    assert time.monotonic() - start < 1.5
