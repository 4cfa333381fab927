"""Politeness: few requests at once to a host, and none while it asks to be left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dataset_prep.fetch.errors import FetchError


class Hosts:
    """Slots and pauses of every host, shared by all threads. Ports and schemes of a name are one host.

    Args:
        per_host: most requests to a host at the same time.
    """

    def __init__(self, per_host: int) -> None:
        self.per_host = per_host
        self._lock = threading.Lock()
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._paused_until: dict[str, float] = {}  # in time.monotonic()
        self._closed = threading.Event()

    @contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """Wait until ``host`` has a free slot and is not paused, and hold the slot during the block."""
        with self._lock:
            slot = self._slots.setdefault(host, threading.BoundedSemaphore(self.per_host))
        with slot:
            while (left := self._pause_left(host)) > 0:
                self.sleep(left)
            self._check_open()
            yield

    def pause(self, host: str, seconds: float) -> None:
        """Let no new request go to ``host`` for so long; a longer pause that is running stays."""
        until = time.monotonic() + seconds
        with self._lock:
            self._paused_until[host] = max(until, self._paused_until.get(host, 0.0))

    def sleep(self, seconds: float) -> None:
        """Sleep, but wake up when the client is closed.

        Raises:
            FetchError: it was closed; not permanent.
        """
        self._closed.wait(seconds)
        self._check_open()

    def close(self) -> None:
        """Wake every thread that waits; they get a :class:`FetchError`."""
        self._closed.set()

    def _pause_left(self, host: str) -> float:
        with self._lock:
            return self._paused_until.get(host, 0.0) - time.monotonic()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise FetchError("client closed", permanent=False)
