"""Why a URL could not be fetched."""

from __future__ import annotations


class FetchError(Exception):
    """A URL could not be fetched.

    Attributes:
        reason: one of a few fixed texts, fit for counting: ``404 Not Found``, ``timed out``, ``too large``.
        permanent: asking again would bring the same: the URL is dead. Otherwise it failed after all retries, and may
            work tomorrow.
        status: the HTTP status, where the server's answer was the reason.
        detail: what is particular to this URL.
    """

    def __init__(self, reason: str, *, permanent: bool, status: int | None = None, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.permanent = permanent
        self.status = status
        self.detail = detail
