"""Maps over a stream by several threads or processes: in order, and with few elements under way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

_AHEAD = 3  # elements per process that are read before their turn


def in_order(
    submit: Callable[[Given], Future[Made]], elements: Iterable[Given], ahead: int
) -> Iterator[tuple[Given, Made]]:
    """Yield ``(element, result of submit(element))`` in the order of ``elements``, of which ``ahead`` are held."""
    under_way: deque[tuple[Given, Future[Made]]] = deque()
    for element in elements:
        under_way.append((element, submit(element)))
        if len(under_way) >= ahead:
            first, result = under_way.popleft()
            yield first, result.result()
    while under_way:
        first, result = under_way.popleft()
        yield first, result.result()


def ordered_map(
    function: Callable[[Given], Made], elements: Iterable[Given], workers: int
) -> Iterator[tuple[Given, Made]]:
    """Yield ``(element, function(element))`` in the order of ``elements``.

    With more than one worker, ``function`` and the elements are pickled to processes, and at most three elements a
    worker are held at a time, however slow the caller is: ``Executor.map`` would read the whole stream first, and
    joblib reads on while its results wait. The processes end with this one, even if it is killed.
    """
    if workers <= 1:
        for element in elements:
            yield element, function(element)
        return
    # spawn: a fork of a process that holds threads, such as torch's, can hang
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent)

    def submit(element: Given) -> Future[Made]:
        with _ctrl_c_put_off():
            return pool.submit(function, element)

    try:
        yield from in_order(submit, elements, _AHEAD * workers)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_put_off() -> Iterator[None]:
    """Processes that are started meanwhile never see Ctrl-C: it is for this one, which ends them."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
