"""A map over a stream in several processes: in order, and with few elements under way."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

_AHEAD = 3  # elements per process that are read before their turn


def ordered_map(
    function: Callable[[Given], Made], elements: Iterable[Given], workers: int
) -> Iterator[tuple[Given, Made]]:
    """Yield ``(element, function(element))`` in the order of ``elements``.

    With more than one worker, ``function`` and the elements are pickled to processes, and at most three elements a
    worker are held at a time (``Executor.map`` would read the whole stream first).
    """
    if workers <= 1:
        for element in elements:
            yield element, function(element)
        return
    # spawn: a fork of a process that holds threads, such as torch's, can stop for ever
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    under_way: deque[tuple[Given, Future[Made]]] = deque()
    try:
        for element in elements:
            under_way.append((element, pool.submit(function, element)))
            if len(under_way) >= _AHEAD * workers:
                first, result = under_way.popleft()
                yield first, result.result()
        while under_way:
            first, result = under_way.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)
