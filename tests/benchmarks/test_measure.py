"""Alternating timings."""

from __future__ import annotations

import time

import pytest

from benchmarks.measure import alternate


def test_runs_alternate_and_the_warm_up_is_not_counted() -> None:
    calls: list[tuple[str, int]] = []

    def work(name: str, seconds: float, run: int) -> float:
        calls.append((name, run))
        time.sleep(seconds if run else 0)
        return 1.0

    ours, reference = alternate(lambda run: work("a", 0.01, run), lambda run: work("b", 0.2, run), 3)
    assert calls == [(name, run) for run in range(4) for name in "ab"]
    assert reference.median == pytest.approx(5, rel=0.2)  # without the warm-up, which takes no time
    assert ours.median > reference.median
    assert ours.spread == [min(ours.runs), max(ours.runs)]
