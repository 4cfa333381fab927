"""Threads that take from one iterator: nothing is read ahead, the first error ends all, Ctrl-C too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")


def for_each(entries: Iterable[T], work: Callable[[T], None], n_workers: int, stop: Callable[[], None]) -> None:
    """Call ``work`` on every entry, ``n_workers`` at a time.

    Args:
        stop: called when the iterator or a call raises, or on Ctrl-C, so that calls that wait come to an end. The
            error is raised once all threads are done.
    """
    iterator = iter(entries)
    taking = threading.Lock()
    ended = threading.Event()

    def take() -> None:
        while not ended.is_set():
            with taking:
                try:
                    entry = next(iterator)
                except StopIteration:
                    return
            work(entry)

    with ThreadPoolExecutor(n_workers) as pool:
        try:
            for thread in as_completed([pool.submit(take) for _ in range(n_workers)]):
                thread.result()
        except BaseException:
            ended.set()
            stop()
            raise
