"""Connections that do not wait for ever for the head of an answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse


class _PromptHTTPConnection(HTTPConnection):
    """The read timeout limits the whole head.

    ``http.client`` applies it to every read alone, so a server that sends a byte now and then could hold a thread for
    days.
    """

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        if self.timeout is None:
            return super().getresponse()
        connection = self.sock
        late = threading.Event()

        def give_up() -> None:
            late.set()
            with suppress(OSError):  # it may be closed by now
                connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads

        timer = threading.Timer(self.timeout, give_up)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if late.is_set():  # whatever the interrupted read made of it
                self.close()
                raise TimeoutError(f"no complete answer within {self.timeout:g} s")


class _PromptHTTPSConnection(_PromptHTTPConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _PromptHTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _PromptHTTPSConnection


def use_prompt_connections(manager: urllib3.PoolManager) -> None:
    """Make all pools of ``manager`` use such connections."""
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
