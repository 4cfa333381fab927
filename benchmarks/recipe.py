"""The whole recipe: time until ours has the valid Recall@20 that the literal version reached in its time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.context import Context
from benchmarks.generate import TINY
from benchmarks.literal_weights import translate
from benchmarks.measure import progress
from benchmarks.rows import Row
from benchmarks.systems import System, literal, ours

DATASET = "amazon-instruments"
_SETTINGS: dict[str, Any] = {"weight_decay": 0.0}
_MOST_EPOCHS = 40  # of fine-tuning ours
_PRETRAINING_SHARE = 0.5


@dataclass(frozen=True)
class Reached:
    """What a recipe reached, and after how long.

    Attributes:
        recall: valid Recall@20.
        seconds: training and validation until then; loading and building are not counted.
        pretrain_epochs, finetune_epochs: trained until then.
    """

    recall: float
    seconds: float
    pretrain_epochs: int
    finetune_epochs: int


@dataclass(frozen=True)
class RecipeBenchmark:
    """Literal: whole epochs of pre-training for half of ``budget``, then of fine-tuning for the rest, validating after
    each. Ours: as many epochs of pre-training, then fine-tuning until it is as good as the literal version's best.

    Both start from the same weights.
    """

    name: str = "recipe vs literal"

    def __call__(self, context: Context) -> list[Row]:
        dataset = context.dataset(TINY) if context.quick else DATASET
        folder = context.data_path / dataset
        if not (folder / "features").is_dir():
            return [Row(self.name, "s", None, None, {"note": f"skipped: there is no prepared data set {folder}"})]
        where = context.data_path, dataset, context.batch_size
        budget = 0.3 if context.quick else context.budget
        reference = train_literal(budget, *where)
        progress(f"    literal: valid Recall@20 {reference.recall:.4f} in {reference.seconds:,.0f} s")
        found = train_ours(reference, *where)
        progress(f"    ours: valid Recall@20 {found.recall:.4f} in {found.seconds:,.0f} s")
        has_reached = found.recall >= reference.recall
        note = f"valid Recall@20 of {reference.recall:.4f}" + ("" if has_reached else f"; ours: {found.recall:.4f}")
        details = {"note": note, "reached": {"ours": vars(found), "reference": vars(reference)}, "budget": budget}
        return [Row(self.name, "s", found.seconds if has_reached else None, reference.seconds, details)]


def train_literal(budget: float, data_path: Path, dataset: str, batch_size: int) -> Reached:
    """The best of the literal recipe; at least one epoch of each stage."""
    clock, pretrain_epochs = Clock(), 0
    stages = [literal(stage, data_path, dataset, batch_size, **_SETTINGS) for stage in ("pretrain", "finetune")]
    starts = [ours(stage, data_path, dataset, batch_size, **_SETTINGS) for stage in ("pretrain", "finetune")]
    for stage, start in zip(stages, starts, strict=True):
        stage.trainer.model.load_state_dict(translate(start.trainer.model.state_dict()))
    with clock:
        while not pretrain_epochs or clock.seconds < budget * _PRETRAINING_SHARE:
            stages[0].train_epoch(pretrain_epochs)
            pretrain_epochs += 1
            progress(f"    pre-training epoch {pretrain_epochs}: {clock.seconds:,.0f} s so far")
    backbone = stages[0].trainer.model.state_dict()
    stages[1].trainer.model.load_state_dict(
        {name: backbone.get(name, own) for name, own in stages[1].trainer.model.state_dict().items()}
    )
    return _finetune(stages[1], clock, pretrain_epochs, lambda _recall, _epochs: clock.seconds >= budget)


def train_ours(goal: Reached, data_path: Path, dataset: str, batch_size: int) -> Reached:
    """The first of ours that is as good as ``goal``, or the best of ``_MOST_EPOCHS``."""
    clock = Clock()
    stages = [ours(stage, data_path, dataset, batch_size, **_SETTINGS) for stage in ("pretrain", "finetune")]
    with clock:
        for epoch in range(goal.pretrain_epochs):
            stages[0].train_epoch(epoch)
    stages[1].trainer.model.load_backbone(stages[0].trainer.model.state_dict())
    return _finetune(
        stages[1],
        clock,
        goal.pretrain_epochs,
        lambda recall, epochs: recall >= goal.recall or epochs == _MOST_EPOCHS,
    )


def _finetune(system: System, clock: Clock, pretrain_epochs: int, stop: Callable[[float, int], bool]) -> Reached:
    """Train and validate epoch by epoch until ``stop(recall, epochs)``; returns the best."""
    best, epochs, recall = Reached(-1.0, 0.0, pretrain_epochs, 0), 0, -1.0
    while epochs == 0 or not stop(recall, epochs):
        with clock:
            system.train_epoch(epochs)
            recall = system.evaluate()["recall@20"]
        epochs += 1
        progress(f"    fine-tuning epoch {epochs}: {recall:.4f}, {clock.seconds:,.0f} s so far")
        if recall > best.recall:
            best = Reached(recall, clock.seconds, pretrain_epochs, epochs)
    return best


class Clock:
    """Adds up the time inside its ``with`` blocks, and can be read within one."""

    def __init__(self) -> None:
        self._spent, self._began = 0.0, 0.0
        self._running = False

    def __enter__(self) -> Clock:
        self._began, self._running = perf_counter(), True
        return self

    def __exit__(self, *exception: Any) -> None:
        self._spent, self._running = self.seconds, False

    @property
    def seconds(self) -> float:
        """Time so far."""
        return self._spent + (perf_counter() - self._began if self._running else 0.0)


BENCHMARKS = (RecipeBenchmark(),)
