"""Fetch files from hosts that are not ours: bounded in time and bytes, retried, and polite.

The defects of the far side end in :class:`~dataset_prep.fetch.errors.FetchError`, which says whether asking again can
help. Only ``http`` and ``https`` URLs of public addresses are asked, redirects included. Proxies are taken from the
environment (``https_proxy``, ``no_proxy``); a request through one is resolved, and its address checked, by the proxy.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self, TypeVar
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import InvalidHeader, LocationParseError
from urllib3.util import Retry, Url, parse_url

from dataset_prep.fetch.answer import Answer
from dataset_prep.fetch.budget import Budget
from dataset_prep.fetch.errors import FetchError
from dataset_prep.fetch.hosts import Hosts
from dataset_prep.fetch.transport import PORTS, Transport
from recbole_msm4sr import __version__

_T = TypeVar("_T")

_REDIRECTS = (301, 302, 303, 307, 308)
_TEMPORARY = (408, 425, 429)  # and 500 to 599
_LONGEST_BACKOFF = 60.0  # seconds


@dataclass(frozen=True)
class Fetched:
    """A body in memory. ``content_type`` has no parameters and may be empty; ``url`` is where redirects ended."""

    body: bytes
    content_type: str
    url: str


class HttpClient:
    """A client for any number of threads. Use it as a context manager, or close it.

    Args:
        per_host: most requests to a host at the same time.
        timeout: seconds to connect, and to wait for the next bytes (for the whole head of an answer).
        retries: further attempts after a failure that may pass.
        backoff: seconds before the first retry, on average; doubled for every further one, up to a minute.
        longest_pause: a host's ``Retry-After`` is kept up to so many seconds.
        max_redirects: most redirects that are followed.
        allow_private: connect to private, loopback and link-local addresses too.
        user_agent: the header of that name.
    """

    def __init__(
        self,
        *,
        per_host: int = 4,
        timeout: tuple[float, float] = (10.0, 30.0),
        retries: int = 4,
        backoff: float = 1.0,
        longest_pause: float = 300.0,
        max_redirects: int = 5,
        allow_private: bool = False,
        user_agent: str = f"recbole-msm4sr/{__version__}",
    ) -> None:
        self.retries = retries
        self.backoff = backoff
        self.longest_pause = longest_pause
        self.max_redirects = max_redirects
        self._headers = {"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        self._hosts = Hosts(per_host)
        self._transport = Transport(per_host, timeout, allow_private=allow_private)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wake the threads that wait for their turn (they get a :class:`FetchError`), and close idle connections."""
        self._hosts.close()
        self._transport.close()

    def fetch(self, url: str, *, max_bytes: int, deadline_seconds: float, content_types: Sequence[str] = ()) -> Fetched:
        """Get a whole body into memory, decompressed if the server compressed it.

        Args:
            max_bytes: most bytes of the body; nothing beyond is read.
            deadline_seconds: most seconds that the servers may take, over all attempts and redirects. Waiting that
                politeness asks for (slots, ``Retry-After``, back-off) comes on top.
            content_types: how the content type may begin, such as ``image/``; any, if empty. An answer that names no
                type is accepted.

        Raises:
            FetchError: it cannot be had; see there.
        """
        budget = Budget(deadline_seconds)

        def attempt() -> Fetched:
            with self.open(url, budget=budget) as answer:
                if answer.content_type and content_types and not answer.content_type.startswith(tuple(content_types)):
                    raise FetchError("wrong content type", permanent=True, detail=answer.content_type)
                return Fetched(answer.read(max_bytes), answer.content_type, answer.url)

        return self._retrying(attempt, budget)

    @contextmanager
    def open(self, url: str, *, budget: Budget, headers: Mapping[str, str] | None = None) -> Iterator[Answer]:
        """Ask once, following redirects, and yield the answer (status 200 to 299) with its body still to be read.

        Raises:
            FetchError: see there. A ``Retry-After`` has paused the host by then.
        """
        seen = set()
        for _ in range(self.max_redirects + 1):
            target = _parse(url)
            host = str(target.host)
            seen.add(target.url)
            lines = {**self._headers, **(headers or {}), "Host": str(target.netloc)}
            with (
                self._hosts.turn(host),
                budget.running(),
                closing(self._transport.get(target, lines, budget)) as response,
            ):
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    self._check_status(response, host)
                    yield Answer(target.url, response, budget)
                    return
            url = _join(target.url, location)
            if _parse(url).url in seen:
                raise FetchError("redirect loop", permanent=True, detail=url)
        raise FetchError("too many redirects", permanent=True, detail=f"more than {self.max_redirects}")

    def wait_before_retry(self, failures: int) -> None:
        """Sleep after the ``failures``-th failure in a row (from 1): exponential back-off with jitter."""
        seconds = min(self.backoff * 2 ** (failures - 1), _LONGEST_BACKOFF)
        self._hosts.sleep(seconds * random.uniform(0.5, 1.5))

    def _retrying(self, attempt: Callable[[], _T], budget: Budget) -> _T:
        failures = 0
        while True:
            try:
                return attempt()
            except FetchError as error:
                failures += 1
                if error.permanent or failures > self.retries or budget.spent:
                    raise
            self.wait_before_retry(failures)

    def _check_status(self, response: urllib3.BaseHTTPResponse, host: str) -> None:
        """Raise unless the status is 200 to 299; pause the host as long as it asks for."""
        status = response.status
        if 200 <= status < 300:
            return
        try:
            pause = Retry().get_retry_after(response)
        except InvalidHeader:
            pause = None
        if pause:
            self._hosts.pause(host, min(pause, self.longest_pause))
        reason = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else f"status {status}"
        raise FetchError(reason, permanent=status < 500 and status not in _TEMPORARY, status=status)


def _join(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise FetchError("not a URL", permanent=True, detail=location) from error


def _parse(url: str) -> Url:
    """The URL's parts, percent-encoded and in lower case where case does not count, without the fragment."""
    try:
        parts = parse_url(url)
    except LocationParseError as error:
        raise FetchError("not a URL", permanent=True, detail=url) from error
    if parts.scheme not in PORTS:
        raise FetchError("not http or https", permanent=True, detail=url)
    if not parts.host:
        raise FetchError("not a URL", permanent=True, detail=url)
    return parts._replace(auth=None, fragment=None)
