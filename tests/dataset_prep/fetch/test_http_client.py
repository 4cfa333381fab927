"""The client against a server that misbehaves in every way that real ones do."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from fault_server import FaultServer, body, cut, slow, stall, status, trickle

from dataset_prep.fetch.addresses import is_public
from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.errors import FetchError

PICTURE = b"\xff\xd8 picture " * 50


def client_for_tests(**options: Any) -> HttpClient:
    return HttpClient(**{"allow_private": True, "backoff": 0.01, "timeout": (2.0, 0.3), **options})


def fetch(url: str, *, max_bytes: int = 10_000, deadline_seconds: float = 5.0, **options: Any) -> tuple[bytes, str]:
    with client_for_tests(**options) as client:
        return client.fetch(url, max_bytes=max_bytes, deadline_seconds=deadline_seconds)


def test_fetches_a_body_with_its_type_and_the_address_it_came_from(fault_server: FaultServer) -> None:
    url = fault_server.serve("/a b.jpg", body(PICTURE, "IMAGE/JPEG; charset=binary"))
    fault_server.serve("/a%20b.jpg", fault_server.routes["/a b.jpg"])
    fetched = fetch(url + "#top")
    assert fetched == (PICTURE, "image/jpeg")
    [request] = fault_server.requests
    assert request.headers["User-Agent"].startswith("recbole-msm4sr/")
    assert request.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 416, 451])
def test_a_dead_link_is_permanent_and_asked_once(fault_server: FaultServer, code: int) -> None:
    url = fault_server.serve("/dead.jpg", status(code))
    with pytest.raises(FetchError) as caught:
        fetch(url)
    assert caught.value.permanent
    assert caught.value.status == code
    assert str(code) in caught.value.reason
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_failure_that_passes_is_retried(fault_server: FaultServer, code: int) -> None:
    url = fault_server.serve("/later.jpg", status(code), status(code), body(PICTURE))
    assert fetch(url)[0] == PICTURE
    assert len(fault_server.requests) == 3


def test_a_failure_that_stays_is_given_up_and_not_permanent(fault_server: FaultServer) -> None:
    url = fault_server.serve("/broken.jpg", status(500))
    with pytest.raises(FetchError) as caught:
        fetch(url, retries=2)
    assert not caught.value.permanent
    assert caught.value.reason == "500 Internal Server Error"
    assert len(fault_server.requests) == 3


def test_retry_after_pauses_the_whole_host_and_no_other(fault_server: FaultServer) -> None:
    limited = fault_server.serve("/limited.jpg", status(429, Retry_After="1"), body(PICTURE))
    fault_server.serve("/same_host.jpg", body(PICTURE))
    with client_for_tests(per_host=2) as client, ThreadPoolExecutor(3) as pool:
        first = pool.submit(client.fetch, limited, max_bytes=10_000, deadline_seconds=5)
        while not fault_server.requests:
            time.sleep(0.005)
        time.sleep(0.1)  # the answer has come
        same = fault_server.url("/same_host.jpg")
        other = fault_server.url("/same_host.jpg", host="localhost")
        rest = [pool.submit(client.fetch, url, max_bytes=10_000, deadline_seconds=5) for url in (same, other)]
        assert all(future.result()[0] == PICTURE for future in (first, *rest))
    refused, *later = fault_server.requests
    for request in later:
        waited = request.time - refused.time
        if request.headers["Host"].startswith("localhost"):
            assert waited < 0.9
        else:
            assert 0.95 < waited < 2.5


def test_retry_after_may_be_a_date_and_is_capped(fault_server: FaultServer) -> None:
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    url = fault_server.serve("/limited.jpg", status(503, Retry_After=tomorrow), body(PICTURE))
    assert fetch(url, longest_pause=0.3)[0] == PICTURE
    first, second = fault_server.requests
    assert 0.28 < second.time - first.time < 2


def test_waiting_for_politeness_does_not_count_as_the_servers_time(fault_server: FaultServer) -> None:
    url = fault_server.serve("/limited.jpg", status(429, Retry_After="1"), body(PICTURE))
    assert fetch(url, deadline_seconds=0.5)[0] == PICTURE


def test_a_host_gets_few_requests_at_once(fault_server: FaultServer) -> None:
    urls = [fault_server.serve(f"/{number}.jpg", slow(0.03, body(PICTURE))) for number in range(12)]
    with client_for_tests(per_host=3) as client, ThreadPoolExecutor(12) as pool:
        bodies = list(pool.map(lambda url: client.fetch(url, max_bytes=10_000, deadline_seconds=5)[0], urls))
    assert bodies == [PICTURE] * 12
    assert max(request.at_once for request in fault_server.requests) == 3


@pytest.mark.parametrize(
    "route",
    [
        stall(),
        stall(PICTURE[:100]),
        slow(30, body(PICTURE)),
        trickle(b"x" * 1000, 0.02),
        trickle(b"x" * 1000, 0.02, head=True),
    ],
    ids=["stalled body", "stalled midway", "no answer", "trickling body", "trickling head"],
)
def test_a_slow_server_holds_a_worker_no_longer_than_the_deadline(fault_server: FaultServer, route: Any) -> None:
    url = fault_server.serve("/slow.jpg", route)
    start = time.monotonic()
    with pytest.raises(FetchError) as caught:
        fetch(url, deadline_seconds=0.5, retries=10)
    assert time.monotonic() - start < 1.5
    assert caught.value.reason == "timed out"
    assert not caught.value.permanent


def test_a_connection_cut_midway_never_gives_half_a_body(fault_server: FaultServer) -> None:
    url = fault_server.serve("/cut.jpg", cut(PICTURE, 100), body(PICTURE))
    assert fetch(url)[0] == PICTURE
    with pytest.raises(FetchError) as caught:
        fetch(fault_server.serve("/always.jpg", cut(PICTURE, 100)), retries=1)
    assert caught.value.reason == "connection cut"
    assert not caught.value.permanent


def test_an_empty_body_is_a_failure(fault_server: FaultServer) -> None:
    with pytest.raises(FetchError, match="empty body"):
        fetch(fault_server.serve("/empty.jpg", body(b"")), retries=1)
    assert len(fault_server.requests) == 2


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_not_read_to_the_end(fault_server: FaultServer, announced: bool) -> None:
    large = bytes(50_000_000)

    def without_length(handler: Any) -> None:
        handler.start(200, {"Content-Type": "image/jpeg", "Connection": "close"})
        handler.close_connection = True
        handler.wfile.write(large)
        finished.set()

    finished = threading.Event()
    url = fault_server.serve("/large.jpg", body(large) if announced else without_length)
    with pytest.raises(FetchError) as caught:
        fetch(url, max_bytes=1_000_000)
    assert (caught.value.reason, caught.value.permanent) == ("too large", True)
    assert not finished.is_set()
    assert len(fault_server.requests) == 1


def test_a_compressed_body_counts_by_what_it_unpacks_to(fault_server: FaultServer) -> None:
    small = fault_server.serve("/small.jpg", body(gzip.compress(PICTURE), Content_Encoding="gzip"))
    assert fetch(small)[0] == PICTURE
    bomb = fault_server.serve("/bomb.jpg", body(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"))
    with pytest.raises(FetchError) as caught:
        fetch(bomb, max_bytes=1_000_000)
    assert (caught.value.reason, caught.value.permanent) == ("too large", True)


def test_redirects_are_followed(fault_server: FaultServer) -> None:
    fault_server.serve("/b/2.jpg", status(301, Location=fault_server.url("/3.jpg", host="localhost")))
    fault_server.serve("/3.jpg", body(PICTURE))
    url = fault_server.serve("/1.jpg", status(302, Location="b/2.jpg"))
    assert fetch(url)[0] == PICTURE
    assert [request.path for request in fault_server.requests] == ["/1.jpg", "/b/2.jpg", "/3.jpg"]
    assert fault_server.requests[-1].headers["Host"].startswith("localhost")


def test_a_redirect_loop_is_permanent(fault_server: FaultServer) -> None:
    url = fault_server.serve("/1.jpg", status(302, Location="/2.jpg"))
    fault_server.serve("/2.jpg", status(302, Location="/1.jpg"))
    with pytest.raises(FetchError) as caught:
        fetch(url)
    assert (caught.value.reason, caught.value.permanent) == ("redirect loop", True)
    assert len(fault_server.requests) == 2


def test_a_long_chain_of_redirects_is_given_up(fault_server: FaultServer) -> None:
    for number in range(10):
        fault_server.serve(f"/{number}.jpg", status(302, Location=f"/{number + 1}.jpg"))
    with pytest.raises(FetchError) as caught:
        fetch(fault_server.url("/0.jpg"))
    assert (caught.value.reason, caught.value.permanent) == ("too many redirects", True)
    assert len(fault_server.requests) == 6


@pytest.mark.parametrize("redirected", [False, True])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        *((url, "not http or https") for url in ("ftp://host/a.jpg", "file:///etc/passwd", "data:image/png;base64,AA")),
        *((url, "not a URL") for url in ("http://", "http:///a.jpg", "http://[::1/a.jpg", "http://host:99999/a.jpg")),
    ],
)
def test_what_cannot_be_asked_is_permanent(fault_server: FaultServer, url: str, reason: str, redirected: bool) -> None:
    if redirected and url in ("http://", "http:///a.jpg"):
        pytest.skip("relative to the first URL these are the first URL, or a path")
    with pytest.raises(FetchError) as caught:
        fetch(fault_server.serve("/1.jpg", status(302, Location=url)) if redirected else url)
    assert (caught.value.reason, caught.value.permanent) == (reason, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_http_is_an_ordinary_failure(fault_server: FaultServer, answer: bytes) -> None:
    def nonsense(handler: Any) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    with pytest.raises(FetchError) as caught:
        fetch(fault_server.serve("/odd.jpg", nonsense), retries=1)
    assert not caught.value.permanent
    assert fetch(fault_server.serve("/odd.jpg", nonsense, body(PICTURE)))[0] == PICTURE


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1"),
    ],
)
def test_no_address_inside_a_network_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_internet_addresses_are_public(address: str) -> None:
    assert is_public(address)


def test_a_private_address_is_not_connected_to(fault_server: FaultServer) -> None:
    fault_server.serve("/a.jpg", body(PICTURE))
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433"):
        with pytest.raises(FetchError) as caught:
            fetch(fault_server.url("/a.jpg", host=host), allow_private=False)
        assert (caught.value.reason, caught.value.permanent) == ("private address", True)
    assert not fault_server.requests


def resolve_as(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Answer every name with these addresses, one list a look-up (the last one from then on); returns the names."""
    asked: list[str] = []
    remaining = list(answers)
    real = socket.getaddrinfo

    def fake(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not name.endswith(".example"):
            return real(host, port, *args, **options)
        asked.append(name)
        addresses = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return [entry for address in addresses for entry in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return asked


def test_a_redirect_to_a_private_address_is_refused(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = fault_server.serve("/1.jpg", status(302, Location=fault_server.url("/2.jpg", host="inside.example")))
    fault_server.serve("/2.jpg", body(PICTURE))
    resolve_as(monkeypatch, ["127.0.0.1"])
    monkeypatch.setattr("dataset_prep.fetch.addresses.is_public", lambda address: len(fault_server.requests) == 0)
    with pytest.raises(FetchError, match="private address"):
        fetch(url, allow_private=False)
    assert [request.path for request in fault_server.requests] == ["/1.jpg"]


def test_a_name_that_changes_its_address_after_the_check_gains_nothing(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.serve("/a.jpg", body(PICTURE))
    connected: list[str] = []
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        connected.append(address[0])
        if address[0] == "8.8.8.8":
            raise ConnectionRefusedError("tests have no network")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    asked = resolve_as(monkeypatch, ["8.8.8.8", "10.0.0.1"], ["127.0.0.1"])
    with pytest.raises(FetchError, match="no connection"):
        fetch(fault_server.url("/a.jpg", host="rebinding.example"), allow_private=False, retries=0)
    assert asked == ["rebinding.example"]
    assert connected == ["8.8.8.8"]  # neither the private one of the same name, nor what it turned into
    assert not fault_server.requests


def test_the_next_address_is_tried_where_one_cannot_be_reached(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.serve("/a.jpg", body(PICTURE))
    resolve_as(monkeypatch, ["::1", "127.0.0.1"])
    url = fault_server.url("/a.jpg", host="two.example")
    assert fetch(url, retries=0)[0] == PICTURE
    assert fault_server.requests[0].headers["Host"] == url.split("/")[2]


def test_an_unknown_host_is_not_permanent(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(FetchError) as caught:
        fetch("http://nowhere.example/a.jpg", retries=1)
    assert (caught.value.reason, caught.value.permanent) == ("host not found", False)


def test_a_proxy_of_the_environment_is_used(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", fault_server.url("").replace("http://", "http://user:secret@"))
    fault_server.serve("/a.jpg", body(PICTURE))
    assert fetch("http://behind-the-proxy.invalid/a.jpg", allow_private=False)[0] == PICTURE
    assert fault_server.requests[0].headers["Host"] == "behind-the-proxy.invalid"
    lower_case = {name.lower(): value for name, value in fault_server.requests[0].headers.items()}
    assert lower_case["proxy-authorization"].startswith("Basic ")
    for host in ("169.254.169.254", "[::1]", "localhost"):
        with pytest.raises(FetchError, match="private address"):
            fetch(f"http://{host}/a.jpg", allow_private=False)


def test_stopping_wakes_the_threads_that_wait(fault_server: FaultServer) -> None:
    url = fault_server.serve("/limited.jpg", status(429, Retry_After="60"))
    client = client_for_tests()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.fetch, url, max_bytes=100, deadline_seconds=5)
        while not fault_server.requests:
            time.sleep(0.005)
        client.stop()
        with pytest.raises(FetchError, match="client closed"):
            waiting.result(timeout=5)
