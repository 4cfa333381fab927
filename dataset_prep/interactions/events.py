"""One event: who did something with which item, and when."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from dataset_prep.tokens import MISSING, token_problem

#: User, item, time in seconds since 1970 (or any number that grows with time).
Event = tuple[str, str, float]


class UnusableError(Exception):
    """A record is no event: ``reason`` is one of a few fixed texts, ``detail`` is particular to the record."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def checked_token(value: object, field: str) -> str:
    """``value`` as the name of a user or an item; ``field`` is what the file calls it.

    Raises:
        UnusableError: it cannot be one (:func:`~dataset_prep.tokens.token_problem`).
    """
    if isinstance(value, str):
        if value in MISSING:
            raise UnusableError(f'"{field}" is missing', repr(value))
        if value.isascii() and value.isalnum():  # nearly all: no need to look closer
            return value
    if problem := token_problem(value):
        raise UnusableError(f'"{field}" {problem}', repr(value)[:80])
    assert isinstance(value, str)
    return value


def checked_number(value: object, field: str) -> float:
    """``value``, a number or the text of one, as a time.

    Raises:
        UnusableError: it is none, or is not finite.
    """
    try:
        time = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        time = math.nan
    if not math.isfinite(time):
        raise UnusableError(f'"{field}" is not a number', repr(value)[:80])
    return time


def checked_time(text: str, field: str) -> float:
    """The text of a number as it stands, or of an ISO 8601 date or time in seconds since 1970 (UTC if it has no zone).

    Raises:
        UnusableError: it is neither.
    """
    try:
        return checked_number(text, field)
    except UnusableError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UnusableError(f'"{field}" is neither a number nor an ISO 8601 date', repr(text)[:80]) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
