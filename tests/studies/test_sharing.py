"""How several processes part the work: what another one is at comes last."""

from __future__ import annotations

import pytest

from recbole_msm4sr.studies.sharing import busy_last


class Tasks:
    """Tasks of which some are another process's until one waits for it."""

    def __init__(self, busy: set[str]) -> None:
        self.busy, self.done = busy, []

    def do(self, task: str, wait: bool) -> None:
        if task in self.busy and not wait:
            raise BlockingIOError
        self.done.append(task)


def test_what_another_process_is_at_comes_last() -> None:
    tasks = Tasks(busy={"a", "c"})
    busy_last("abcd", tasks.do)
    assert tasks.done == ["b", "d", "a", "c"]


def test_without_waiting_all_others_are_done_first() -> None:
    tasks = Tasks(busy={"a"})
    with pytest.raises(BlockingIOError, match="1 of the tasks"):
        busy_last("abc", tasks.do, wait=False)
    assert tasks.done == ["b", "c"]
    free = Tasks(busy=set())
    busy_last("abc", free.do, wait=False)
    assert free.done == ["a", "b", "c"]
