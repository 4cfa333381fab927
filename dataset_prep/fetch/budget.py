"""A limit on the time that servers may take, over all attempts and redirects of a URL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from dataset_prep.fetch.errors import FetchError


class Budget:
    """Seconds of network time. What politeness costs (slots, pauses, back-off) is not the server's and not counted."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._left = seconds
        self._deadline: float | None = None  # in time.monotonic(), while running

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time that the block takes."""
        self._deadline = time.monotonic() + self._left
        try:
            yield
        finally:
            self._left = self._deadline - time.monotonic()
            self._deadline = None

    def renew(self) -> None:
        """Start from the full number of seconds again: enough has come."""
        self._left = self.seconds
        if self._deadline is not None:
            self._deadline = time.monotonic() + self.seconds

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return self._remaining() <= 0

    def left(self) -> float:
        """Seconds that are left, more than 0.

        Raises:
            FetchError: none are; not permanent.
        """
        left = self._remaining()
        if left <= 0:
            raise FetchError("timed out", permanent=False, detail=f"not done after {self.seconds:g} s")
        return left

    def _remaining(self) -> float:
        return self._left if self._deadline is None else self._deadline - time.monotonic()
