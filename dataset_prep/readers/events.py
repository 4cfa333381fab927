"""One event: who did something with which item, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dataset_prep.readers.rejected import ReasonError
from recbole_msm4sr.data.tokens import MISSING, token_problem

#: User, item, time in seconds since 1970 (or any number that grows with time).
Event = tuple[str, str, float]
_LARGEST_TIME = 3.4028234663852886e38  # of float32, as which RecBole keeps times


def checked_token(value: object, field: str) -> str:
    """``value`` as the name of a user or an item; ``field`` is what the file calls it.

    Raises:
        ReasonError: it cannot be one (:func:`~recbole_msm4sr.data.tokens.token_problem`).
    """
    if isinstance(value, str):
        if value.isascii() and value.isalnum() and value not in MISSING:  # nearly all: no need to look closer
            return value
        if value not in MISSING and not token_problem(value):
            return value
    if value is None or (isinstance(value, str) and value in MISSING):
        raise ReasonError(f'"{field}" is missing', repr(value))
    raise ReasonError(f'"{field}" {token_problem(value)}', repr(value)[:80])


def named_token(record: Mapping[str, Any], field: str) -> str:
    """The user or item that a record names.

    Raises:
        ReasonError: it has no such field, or as :func:`checked_token`.
    """
    if record.get(field) is None:
        raise ReasonError(f'no "{field}"')
    return checked_token(record[field], field)


def checked_number(value: object, field: str) -> float:
    """``value``, a number or the text of one, as a time.

    Raises:
        ReasonError: it is not a number, not finite, or too large for float32.
    """
    time = _number(value)
    if abs(time) <= _LARGEST_TIME:
        return time
    if math.isfinite(time):
        raise ReasonError(f'"{field}" is beyond float32\'s 3.4e38', _shown(value))
    raise ReasonError(f'"{field}" is not a number', _shown(value))


def checked_time(value: object, field: str) -> float:
    """A number as it stands, or the text of one, or of an ISO 8601 date in seconds since 1970 (UTC if it has no zone).

    Raises:
        ReasonError: it is none of these.
    """
    if value is None:
        raise ReasonError(f'"{field}" is missing', repr(value))
    if not math.isnan(_number(value)):
        return checked_number(value, field)
    try:
        moment = datetime.fromisoformat(str(value).strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        raise ReasonError(f'"{field}" is neither a number nor an ISO 8601 date', _shown(value)) from None


def _number(value: object) -> float:
    """NaN for what is not a number; Python alone would read ``1_000`` as one."""
    if not isinstance(value, str | float | int) or isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan
    except OverflowError:
        return math.inf


def _shown(value: object) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"
