"""Fresh processes and their memory."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from benchmarks.fresh_process import in_fresh_process, peak_memory

MIB = 2**20


def grow(mebibytes: int) -> float:
    """Peak growth of allocating, touching and freeing an array."""
    return peak_memory(lambda: np.ones(mebibytes * MIB, dtype=np.uint8).sum())[1]


def fill_memory() -> None:
    arrays = []
    while True:
        arrays.append(np.empty(2**30, dtype=np.uint8))  # never written: the limit stops it, not the machine


def fail() -> None:
    raise KeyError("its own fault")


def test_the_peak_is_the_growth_above_what_was_there() -> None:
    outcome = in_fresh_process(grow, 200)
    assert outcome.value == pytest.approx(200, abs=5)
    assert in_fresh_process(grow, 20).value == pytest.approx(20, abs=5)


def test_a_fresh_process_is_another_one() -> None:
    assert in_fresh_process(os.getpid).value != os.getpid()


def test_running_out_of_time_or_memory_is_an_outcome() -> None:
    assert in_fresh_process(time.sleep, 60, time_limit=0.2).failure == "took more than 0 s"
    outcome = in_fresh_process(fill_memory)
    assert outcome.value is None
    assert "ran out of memory" in outcome.failure


def test_a_process_that_dies_is_an_outcome() -> None:
    assert in_fresh_process(os._exit, 3).failure == "ended with exit code 3"


def test_any_other_failure_is_raised() -> None:
    with pytest.raises(KeyError, match="its own fault"):
        in_fresh_process(fail)
