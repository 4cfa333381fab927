"""Fixtures of the data set preparation's tests; the modules beside this file can be imported by all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fault_server import FaultServer, running_fault_server


@pytest.fixture
def fault_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """A server on 127.0.0.1 without routes, which no proxy of the environment stands before."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running_fault_server() as server:
        yield server
