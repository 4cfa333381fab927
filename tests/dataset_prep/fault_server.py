"""A web server on 127.0.0.1 whose routes misbehave as a test tells them to."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

LONG = 30.0  # seconds: longer than any test waits; a stalled route ends when the server stops


@dataclass(frozen=True)
class Request:
    """One request as it came in: ``time`` is ``time.monotonic()``; ``at_once`` counts its host's, itself included."""

    time: float
    path: str
    headers: dict[str, str]
    at_once: int


Route = Callable[["Handler"], None]


class FaultServer(ThreadingHTTPServer):
    """Serves the routes that were registered; anything else is 404. ``requests`` is the log, in order of arrival."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes: dict[str, Route] = {}
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The URL of a path; another name of this machine makes it another host."""
        return f"http://{host}:{self.server_address[1]}{path}"

    def serve(self, path: str, *routes: Route) -> str:
        """Register what answers ``path``: the first route the first request, ..., the last one all further requests.

        Returns:
            The URL.
        """
        remaining = list(routes)

        def answer(handler: Handler) -> None:
            with self._lock:
                route = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            route(handler)

        self.routes[path] = answer
        return self.url(path)

    def log_of(self, path: str) -> list[Request]:
        """The requests for one path."""
        return [request for request in self.requests if request.path == path]

    def arrived(self, path: str, headers: dict[str, str]) -> str:
        """Note a request; returns its host, for :meth:`left`."""
        host = headers.get("Host", "")
        with self._lock:
            self._open[host] += 1
            self.requests.append(Request(time.monotonic(), path, headers, self._open[host]))
        return host

    def left(self, host: str) -> None:
        """Note that a request was answered."""
        with self._lock:
            self._open[host] -= 1

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients hang up on faulty routes."""


class Handler(BaseHTTPRequestHandler):
    """One connection. Routes write to it."""

    protocol_version = "HTTP/1.1"
    server: FaultServer

    def do_GET(self) -> None:
        """Answer by the route of the path; a proxy's absolute URL counts by its path."""
        path = urlsplit(self.path).path
        host = self.server.arrived(path, dict(self.headers.items()))
        try:
            self.server.routes.get(path, status(404))(self)
        finally:
            self.server.left(host)

    def start(self, code: int, headers: dict[str, str]) -> None:
        """Send the head of an answer."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def body(data: bytes, content_type: str = "image/jpeg", **headers: str) -> Route:
    """A whole answer; a header's ``_`` stands for ``-``."""

    def answer(handler: Handler) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.start(200, {"Content-Type": content_type, "Content-Length": str(len(data)), **named})
        handler.wfile.write(data)

    return answer


def status(code: int, **headers: str) -> Route:
    """An empty answer with a status: ``status(429, Retry_After="1")``, ``status(302, Location=url)``."""

    def answer(handler: Handler) -> None:
        handler.start(code, {"Content-Length": "0", **{name.replace("_", "-"): headers[name] for name in headers}})

    return answer


def slow(seconds: float, then: Route) -> Route:
    """Wait, then answer."""

    def answer(handler: Handler) -> None:
        handler.server.stopping.wait(seconds)
        then(handler)

    return answer


def stall(data: bytes = b"", announced: int = 1000) -> Route:
    """Send the head and some of the body, then nothing more while the connection stays open."""

    def answer(handler: Handler) -> None:
        handler.start(200, {"Content-Type": "image/jpeg", "Content-Length": str(announced)})
        handler.wfile.write(data)
        handler.wfile.flush()
        handler.server.stopping.wait(LONG)

    return answer


def trickle(data: bytes, interval: float, *, head: bool = False) -> Route:
    """Send the body a byte at a time; or, with ``head``, an endless head."""

    def answer(handler: Handler) -> None:
        if head:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        else:
            handler.start(200, {"Content-Type": "image/jpeg", "Content-Length": str(len(data))})
        for byte in data:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            if handler.server.stopping.wait(interval):
                return

    return answer


def cut(data: bytes, after: int) -> Route:
    """Announce the whole body, send the first bytes of it, and hang up."""

    def answer(handler: Handler) -> None:
        handler.start(200, {"Content-Type": "image/jpeg", "Content-Length": str(len(data))})
        handler.wfile.write(data[:after])
        handler.close_connection = True

    return answer


def ranged(
    data: bytes,
    *,
    at_most: int | None = None,
    etag: str | None = None,
    last_modified: str | None = None,
    content_type: str = "application/x-gzip",
    block: int = 65536,
    interval: float = 0.0,
) -> Route:
    """A file with ranges, as a static file server sends it: ``If-Range`` with another validator gets it all.

    Args:
        at_most: hang up after so many bytes of the body.
        etag: the validator; the digest of ``data`` by default, none if empty.
        block, interval: send so many bytes, then wait so many seconds.
    """
    tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"' if etag is None else etag
    validators = {name: value for name, value in (("ETag", tag), ("Last-Modified", last_modified)) if value}

    def answer(handler: Handler) -> None:
        first, code = 0, 200
        headers = {"Content-Type": content_type, "Accept-Ranges": "bytes", **validators}
        wanted = handler.headers.get("Range")
        if wanted and handler.headers.get("If-Range") in (None, *validators.values()):
            first, code = int(wanted.removeprefix("bytes=").rstrip("-")), 206
            if first >= len(data):
                handler.start(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
                return
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        handler.start(code, {**headers, "Content-Length": str(len(data) - first)})
        end = len(data) if at_most is None else min(len(data), first + at_most)
        for start in range(first, end, block):
            handler.wfile.write(data[start : min(start + block, end)])
            if interval and handler.server.stopping.wait(interval):
                return
        handler.close_connection = handler.close_connection or end < len(data)

    return answer


@contextmanager
def running_fault_server() -> Iterator[FaultServer]:
    """A server in a thread of its own, stopped at the end of the block."""
    server = FaultServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
