"""Time two things alternately."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch


@dataclass(frozen=True)
class Rate:
    """Amount per second of several runs.

    Attributes:
        runs: every run's rate, in the order they ran.
    """

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def spread(self) -> list[float]:
        """Lowest and highest."""
        return [min(self.runs), max(self.runs)]


def alternate(ours: Callable[[int], float], reference: Callable[[int], float], repeats: int) -> tuple[Rate, Rate]:
    """Run both in turn, so that a change of the machine's speed meets both, after one run of each to warm up.

    Args:
        ours, reference: given the number of the run (0 is the warm-up), do some work and return its amount.
        repeats: timed runs of each.
    """
    rates: tuple[list[float], list[float]] = ([], [])
    for run in range(repeats + 1):
        for work, measured, name in ((ours, rates[0], "ours"), (reference, rates[1], "reference")):
            rate = timed(work, run)
            if run:
                measured.append(rate)
            progress(f"    {'run ' + str(run) if run else 'warm-up'}: {name} {rate:,.4g}/s")
    return Rate(tuple(rates[0])), Rate(tuple(rates[1]))


def timed(work: Callable[[int], float], run: int) -> float:
    """Amount per second of one run of ``work``."""
    synchronize()
    began = perf_counter()
    amount = work(run)
    synchronize()
    return amount / (perf_counter() - began)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def progress(line: str) -> None:
    """Print a line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)
