"""The exceptions that a user is meant to read."""

from __future__ import annotations


class UserError(ValueError):
    """Input that cannot be used: a missing file, an unknown key, a value out of range, a broken feature store.

    The message is one line that says what is wrong and how to fix it. Command line tools print it and exit with
    code 2; library callers may catch it as a ``ValueError``.
    """


class DivergedError(UserError):
    """Training led to NaN or infinity: these settings do not work, others may."""


class InUseError(UserError, BlockingIOError):
    """Another process holds the lock of this work, and the caller does not want to wait."""
