"""Fetch files from hosts that are not ours: bounded in time and bytes, retried, and polite.

The faults of the far side end in :class:`~dataset_prep.fetch.errors.FetchError`, which says whether asking again can
help. Only ``http`` and ``https`` URLs of public addresses are asked, redirects included.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Self
from urllib.parse import urljoin

from urllib3 import BaseHTTPResponse, Retry, Timeout
from urllib3.exceptions import InvalidHeader
from urllib3.util import Url, parse_url

from dataset_prep.fetch.errors import FetchError, as_fetch_errors
from dataset_prep.fetch.transport import Transport
from recbole_msm4sr import __version__

_BLOCK = 256 * 2**10  # bytes
_HEADERS = {"User-Agent": f"recbole-msm4sr/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
_MAX_REDIRECTS = 5
_TEMPORARY = (408, 425, 429)  # and 500 to 599
_LONGEST_BACKOFF = 60.0  # seconds


class Clock:
    """Seconds that servers may take. What politeness makes us wait is added to the deadline, not counted."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Start from the full number of seconds again: enough has come."""
        self.deadline = time.monotonic() + self.seconds

    def left(self) -> float:
        """Seconds that are left, more than 0; a :class:`FetchError` if none are."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise FetchError("timed out", permanent=False, detail=f"not done after {self.seconds:g} s")
        return left


class HttpClient:
    """A client for any number of threads, on urllib3's connection pools. Use it as a context manager.

    Retries are ours and not urllib3's: it does not retry once it has handed over the beginning of a body, its waiting
    cannot be interrupted, and a ``Retry-After`` holds up one request alone.

    Args:
        per_host: most requests to a host (of any port) at the same time.
        allow_private: connect to private, loopback and link-local addresses, too.
        timeout: seconds to connect, and to wait for the next bytes (for the whole head of an answer).
        retries: further attempts after a failure that may pass.
        backoff: seconds before the first retry, on average; doubled for every further one, up to a minute.
        longest_pause: a host's ``Retry-After`` is respected up to so many seconds.
    """

    def __init__(
        self,
        *,
        per_host: int = 4,
        allow_private: bool = False,
        timeout: tuple[float, float] = (10.0, 30.0),
        retries: int = 4,
        backoff: float = 1.0,
        longest_pause: float = 300.0,
    ) -> None:
        self.retries = retries
        self._per_host, self._timeout, self._backoff, self._longest_pause = per_host, timeout, backoff, longest_pause
        self._transport = Transport(per_host, allow_private=allow_private)
        self._lock = threading.Lock()
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._paused_until: dict[str, float] = {}  # in time.monotonic()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Wake every thread that waits, for its turn or for a server; they get a :class:`FetchError`."""
        self._stopped.set()
        self._transport.close()

    def fetch(self, url: str, *, max_bytes: int, deadline_seconds: float) -> tuple[bytes, str]:
        """Get a whole body into memory, decompressed if the server compressed it.

        Args:
            max_bytes: most bytes of the body; nothing beyond is read.
            deadline_seconds: most seconds that the servers may take, over all attempts and redirects. Waiting that
                politeness asks for (slots, ``Retry-After``, back-off) comes on top.

        Returns:
            The body and its content type.

        Raises:
            FetchError: it cannot be fetched.
        """
        clock, failures = Clock(deadline_seconds), 0
        while True:
            try:
                with self.open(url, clock) as response:
                    return _read(response, clock, max_bytes), content_type(response)
            except FetchError as error:
                failures += 1
                if error.permanent or failures > self.retries or time.monotonic() > clock.deadline:
                    raise
            self.wait_before_retry(failures, clock)

    @contextmanager
    def open(self, url: str, clock: Clock, headers: Mapping[str, str] | None = None) -> Iterator[BaseHTTPResponse]:
        """Ask once, following redirects, and yield the answer (status 200 to 299) with its body still to be read.

        Raises:
            FetchError: there is no such answer. A ``Retry-After`` has paused the host by then.
        """
        seen = [""]
        for _ in range(_MAX_REDIRECTS + 1):
            target = _parse(url, seen[-1])
            if target.url in seen:
                raise FetchError("redirect loop", permanent=True, detail=target.url)
            seen.append(target.url)
            with self._turn(str(target.host), clock):
                connect, read = (min(limit, clock.left()) for limit in self._timeout)
                lines = {**_HEADERS, **(headers or {}), "Host": str(target.netloc)}
                with closing(self._transport.get(target, lines, Timeout(connect=connect, read=read))) as response:
                    if not response.get_redirect_location():
                        self._check_status(response, str(target.host))
                        yield response
                        return
                    url = str(response.get_redirect_location())
        raise FetchError("too many redirects", permanent=True, detail=f"more than {_MAX_REDIRECTS}")

    def wait_before_retry(self, failures: int, clock: Clock | None = None) -> None:
        """Sleep after the ``failures``-th failure in a row (from 1): exponential back-off with jitter."""
        seconds = min(self._backoff * 2 ** (failures - 1), _LONGEST_BACKOFF) * random.uniform(0.5, 1.5)
        self._sleep(seconds)
        if clock is not None:
            clock.deadline += seconds

    @contextmanager
    def _turn(self, host: str, clock: Clock) -> Iterator[None]:
        """Wait until ``host`` has a free slot and is not paused, and hold the slot during the block."""
        asked = time.monotonic()
        with self._lock:
            slot = self._slots.setdefault(host, threading.BoundedSemaphore(self._per_host))
        with slot:
            self._sleep(0.0)
            while (pause := self._paused_until.get(host, 0.0) - time.monotonic()) > 0:
                self._sleep(pause)
            clock.deadline += time.monotonic() - asked
            yield

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise FetchError("client closed", permanent=False)

    def _check_status(self, response: BaseHTTPResponse, host: str) -> None:
        """Raise unless the status is 200 to 299; pause the host as long as it asks for."""
        status = response.status
        if 200 <= status < 300:
            return
        try:
            pause = Retry().get_retry_after(response) or 0.0
        except InvalidHeader:
            pause = 0.0
        until = time.monotonic() + min(pause, self._longest_pause)
        with self._lock:
            self._paused_until[host] = max(until, self._paused_until.get(host, 0.0))
        reason = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else f"status {status}"
        raise FetchError(reason, permanent=status < 500 and status not in _TEMPORARY, status=status)


def content_type(response: BaseHTTPResponse) -> str:
    """The media type in lower case without its parameters; empty if the server names none."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def blocks(response: BaseHTTPResponse, clock: Clock, *, decompress: bool) -> Iterator[bytes]:
    """Yield the body in pieces of at most 256 KiB, as they come.

    Raises:
        FetchError: the connection broke, the body is shorter than announced, or the time is over.
    """
    while True:
        with as_fetch_errors():
            block = response.read1(_BLOCK, decode_content=decompress)
        if not block:
            return
        yield block
        clock.left()


def _read(response: BaseHTTPResponse, clock: Clock, max_bytes: int) -> bytes:
    """The whole body, decompressed; a :class:`FetchError` if it is longer than ``max_bytes``, or empty."""
    too_large = FetchError("too large", permanent=True, detail=f"more than {max_bytes:,} bytes")
    if (response.length_remaining or 0) > max_bytes:
        raise too_large
    body = bytearray()
    for block in blocks(response, clock, decompress=True):
        body += block
        if len(body) > max_bytes:
            raise too_large
    if not body:
        raise FetchError("empty body", permanent=False)
    return bytes(body)


def _parse(url: str, base: str) -> Url:
    """Parts of a URL (that may be relative), encoded, in lower case where case does not count, without the fragment."""
    try:
        parts = parse_url(urljoin(base, url))
    except ValueError as error:  # of both functions
        raise FetchError("not a URL", permanent=True, detail=url) from error
    if parts.scheme not in ("http", "https"):
        raise FetchError("not http or https", permanent=True, detail=url)
    if not parts.host:
        raise FetchError("not a URL", permanent=True, detail=url)
    return parts._replace(auth=None, fragment=None)
