"""The exceptions that a user is meant to read, and how what they quote is made fit to print."""

from __future__ import annotations

from typing import Any

_LONGEST_LINE, _LONGEST_VALUE = 2000, 120


class UserError(ValueError):
    """Input that cannot be used: a missing file, an unknown key, a value out of range, a broken feature store.

    The message is one line that says what is wrong and how to fix it. Command line tools print it and exit with
    code 2; library callers may catch it as a ``ValueError``.
    """


class DivergedError(UserError):
    """Training led to NaN or infinity: these settings do not work, others may."""


class InUseError(UserError, BlockingIOError):
    """Another process holds the lock of this work, and the caller does not want to wait."""


def one_line(text: str, longest: int = _LONGEST_LINE) -> str:
    """The text with control characters, line ends among them, as escapes such as ``\\x1b``; cut where it is long."""
    if len(text) > longest:
        text = f"{text[: longest - 20]} ... ({len(text)} characters)"
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


def shown(value: Any) -> str:
    """A value of the user's for a message: its ``repr`` in one line that is not long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits, or lists within lists within ...
        text = f"a value of the type {type(value).__name__} that is too long to show"
    return one_line(text, _LONGEST_VALUE)
