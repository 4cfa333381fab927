"""One event: who did something with which item, and when."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from dataset_prep.readers.rejected import ReasonError
from recbole_msm4sr.data.tokens import MISSING, token_problem

#: User, item, time in seconds since 1970 (or any number that grows with time).
Event = tuple[str, str, float]


def checked_token(value: object, field: str) -> str:
    """``value`` as the name of a user or an item; ``field`` is what the file calls it.

    Raises:
        ReasonError: it cannot be one (:func:`~recbole_msm4sr.data.tokens.token_problem`).
    """
    if isinstance(value, str):
        if value in MISSING:
            raise ReasonError(f'"{field}" is missing', repr(value))
        if value.isascii() and value.isalnum():  # nearly all: no need to look closer
            return value
    if problem := token_problem(value):
        raise ReasonError(f'"{field}" {problem}', repr(value)[:80])
    assert isinstance(value, str)
    return value


def checked_number(value: object, field: str) -> float:
    """``value``, a number or the text of one, as a time.

    Raises:
        ReasonError: it is none, or is not finite.
    """
    try:
        time = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        time = math.nan
    if not math.isfinite(time):
        raise ReasonError(f'"{field}" is not a number', repr(value)[:80])
    return time


def checked_time(text: str, field: str) -> float:
    """The text of a number as it stands, or of an ISO 8601 date or time in seconds since 1970 (UTC if it has no zone).

    Raises:
        ReasonError: it is neither.
    """
    try:
        return checked_number(text, field)
    except ReasonError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ReasonError(f'"{field}" is neither a number nor an ISO 8601 date', repr(text)[:80]) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
