"""Training: pairs a second or seconds an epoch, and peak memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import roofline
from benchmarks.context import Context
from benchmarks.fresh_process import Resident, in_fresh_process, peak_memory
from benchmarks.generate import OFFICE, PANTRY, DatasetSize
from benchmarks.measure import Rate, alternate, progress
from benchmarks.rows import Row
from benchmarks.systems import System, literal, ours, stock_sasrec

_REPEATS = 3


@dataclass(frozen=True)
class TrainingBenchmark:
    """One stage of ours against a reference.

    Attributes:
        name: of the first row; the second has the peak memory.
        stage: pretrain or finetune.
        reference: literal or stock.
        size: the data set.
        steps: training steps of a timed run, ours and the reference's.
        unit: pairs/s, or s: for an epoch, extrapolated from those steps.
    """

    name: str
    stage: str
    reference: str
    size: DatasetSize
    steps: tuple[int, int]
    unit: str = "pairs/s"

    def __call__(self, context: Context) -> list[Row]:
        dataset = context.dataset(self.size)
        return [self._speed(context, dataset), self._memory(context, dataset)]

    def _speed(self, context: Context, dataset: str) -> Row:
        where = context.data_path, dataset, context.batch_size
        steps = [context.steps(n) for n in self.steps]
        with (
            Resident(build, "ours", self.stage, *where) as own,
            Resident(build, self.reference, self.stage, *where) as other,
        ):
            rates = alternate(
                lambda run: own(System.train, steps[0] if run else 1, run),
                lambda run: other(System.train, steps[1] if run else 1, run),
                context.times(_REPEATS),
            )
            pairs = [own(System.count_pairs), other(System.count_pairs)]
            flop = own(training_flop, 1)
        details: dict[str, Any] = {
            "spread": [self._spread(rate, n) for rate, n in zip(rates, pairs, strict=True)],
            "steps": steps,
            "pairs_per_epoch": pairs,
            "roofline": roofline.report(flop, rates[0].median),
        }
        if self.unit == "s":
            details["note"] = f"an epoch of {pairs[0]:,} pairs, extrapolated from {steps[0]} and {steps[1]} steps"
        ours_figure, reference = (self._figure(rate.median, n) for rate, n in zip(rates, pairs, strict=True))
        return Row(self.name, self.unit, ours_figure, reference, details)

    def _figure(self, rate: float, pairs_per_epoch: int) -> float:
        return rate if self.unit == "pairs/s" else pairs_per_epoch / rate

    def _spread(self, rate: Rate, pairs_per_epoch: int) -> list[float]:
        return sorted(self._figure(value, pairs_per_epoch) for value in rate.spread)

    def _memory(self, context: Context, dataset: str) -> Row:
        peaks, failures = [], []
        where = context.data_path, dataset, context.batch_size
        for name, steps in zip(("ours", self.reference), self.steps, strict=True):
            outcome = in_fresh_process(training_memory, context.steps(steps), name, self.stage, *where)
            peaks.append(outcome.value)
            failures += [f"{name} {outcome.failure}"] if outcome.failure else []
            progress(f"    peak memory: {name} {outcome.failure or f'{outcome.value:,.0f} MiB'}")
        details = {"note": "; ".join(failures)} if failures else {}
        return Row(f"{self.name}, peak memory", "MiB", peaks[0], peaks[1], details)


def build(system: str, stage: str, data_path: Path, dataset: str, batch_size: int) -> System:
    """``ours``, ``literal`` or ``stock``, by name, so that a fresh process can be asked for it."""
    if system == "stock":
        return stock_sasrec(data_path, dataset, batch_size)
    return {"ours": ours, "literal": literal}[system](stage, data_path, dataset, batch_size)


def training_memory(steps: int, *system: Any) -> float:
    """Peak memory in MiB of loading the data, building the model and some steps; of the GPU if there is one.

    Args:
        steps: training steps.
        system: the arguments of ``build``.
    """
    _, growth = peak_memory(lambda: build(*system).train(steps, 0))
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else growth


def training_flop(system: System, steps: int) -> float:
    """Operations a pair of the first steps of an epoch."""
    return roofline.flop_of(lambda: system.train(steps, 0))


BENCHMARKS = (
    TrainingBenchmark("pretrain vs literal", "pretrain", "literal", PANTRY, (20, 2)),
    TrainingBenchmark("finetune vs literal", "finetune", "literal", PANTRY, (20, 2)),
    TrainingBenchmark("pretrain vs stock SASRec", "pretrain", "stock", PANTRY, (20, 10)),
    TrainingBenchmark("finetune vs stock SASRec", "finetune", "stock", PANTRY, (20, 10)),
    TrainingBenchmark("finetune epoch vs stock SASRec", "finetune", "stock", PANTRY, (20, 10), unit="s"),
    TrainingBenchmark("pretrain vs literal, Office", "pretrain", "literal", OFFICE, (20, 1)),
    TrainingBenchmark("finetune vs literal, Office", "finetune", "literal", OFFICE, (4, 1)),
    TrainingBenchmark("finetune epoch vs stock SASRec, Office", "finetune", "stock", OFFICE, (4, 4), unit="s"),
)
