"""Why a URL could not be fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from urllib3 import exceptions

from dataset_prep.readers.rejected import ReasonError

# The first class that fits gives the reason: some of them are kinds of others.
_REASONS = {
    exceptions.NameResolutionError: "host not found",
    exceptions.NewConnectionError: "no connection",
    exceptions.TimeoutError: "timed out",
    exceptions.SSLError: "no secure connection",
    exceptions.ProtocolError: "connection cut",
    exceptions.DecodeError: "damaged compression",
    exceptions.HTTPError: "bad answer",
}


class FetchError(ReasonError):
    """A URL could not be fetched; ``reason`` is ``404 Not Found``, ``timed out``, ``too large`` or the like.

    Attributes:
        permanent: asking again would bring the same: the URL is dead. Otherwise it failed after all retries, and may
            work tomorrow.
        status: the HTTP status, where the server's answer was the reason.
    """

    def __init__(self, reason: str, *, permanent: bool, status: int | None = None, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.permanent = permanent
        self.status = status


@contextmanager
def as_fetch_errors() -> Iterator[None]:
    """Turn the library's errors into :class:`FetchError`. None of them is permanent: networks fail and recover."""
    try:
        yield
    except exceptions.HTTPError as error:
        reason = next(reason for kind, reason in _REASONS.items() if isinstance(error, kind))
        raise FetchError(reason, permanent=False, detail=str(error)) from error
