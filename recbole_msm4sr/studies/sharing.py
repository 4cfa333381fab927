"""Work that several processes part among themselves: each first does what no other is at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Task = TypeVar("Task")


def busy_last(tasks: Iterable[Task], do: Callable[[Task, bool], None], *, wait: bool = True) -> None:
    """Do every task once, in order, but those that another process is at after all others.

    Args:
        do: called with a task and whether to wait for another process; raises ``BlockingIOError`` instead of waiting.
        wait: whether to do those at all.

    Raises:
        BlockingIOError: another process is at a task, and ``wait`` is false; all others are done.
    """
    busy = []
    for task in tasks:
        try:
            do(task, False)
        except BlockingIOError:
            busy.append(task)
    if busy and not wait:
        raise BlockingIOError(f"another process is at {len(busy)} of the tasks")
    for task in busy:
        do(task, True)
