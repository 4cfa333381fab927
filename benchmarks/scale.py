"""Scale: cost of a fine-tuning pair as the catalogue and the histories grow, and the memory that it takes.

The catalogue grows with the interactions, ten an item, to 1 M items and 10 M interactions. ``sampled`` trains with
sampled negatives and leaves the features on disk; ``full`` is the softmax over all items. An item has one to three
sentences and up to two pictures, so that 1 M items fit a small disk: their features are 4.6 GB.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.context import Context
from benchmarks.fresh_process import in_fresh_process, peak_memory
from benchmarks.generate import DatasetSize
from benchmarks.measure import progress, timed
from benchmarks.rows import Row
from benchmarks.systems import ours

_FEATURES = (("text", 1, 3), ("image", 0, 2))
_SAMPLED = {"loss_type": "sampled", "feature_storage": "disk"}
_TIME_LIMIT = 1800.0
_STEPS = 10


def _catalogue(label: str, n_items: int) -> DatasetSize:
    return DatasetSize(f"bench-items-{label}", n_items, n_items, 10 * n_items, _FEATURES)


def _histories(length: int) -> DatasetSize:
    n_users = 100_000 // length
    return DatasetSize(f"bench-histories-{length}", n_users, 10_000, n_users * length, _FEATURES, shortest=length)


@dataclass(frozen=True)
class ScaleBenchmark:
    """Ours at growing sizes, each against the first, each in a fresh process.

    Attributes:
        name: of the benchmark, and the beginning of its rows' names.
        sizes: label, data set and settings; the smallest first.
    """

    name: str
    sizes: tuple[tuple[str, DatasetSize, dict[str, Any]], ...]

    def __call__(self, context: Context) -> list[Row]:
        rows: list[Row] = []
        first: Figures | None = None
        for label, size, settings in self.sizes:
            system = context.data_path, context.dataset(size), context.batch_size, settings
            outcome = in_fresh_process(measure, context.steps(_STEPS), *system, time_limit=_TIME_LIMIT)
            progress(f"    {label}: {outcome.failure or outcome.value}")
            found = outcome.value or Figures(None, None)
            notes = [f"against {self.sizes[0][0]}" if first else "the size that the others are compared with"]
            notes += [f"ours {outcome.failure}"] if outcome.failure else []
            details = {"note": "; ".join(notes), "n_items": size.n_items, "n_interactions": size.n_interactions}
            reference = first or Figures(None, None)
            name = f"{self.name} {label}"
            rows.append(Row(name, "us/pair", found.microseconds, reference.microseconds, details))
            rows.append(Row(f"{name}, peak memory", "MiB", found.peak, reference.peak, details))
            first = first or found
        return rows


class Figures(NamedTuple):
    """Of one size: microseconds a pair, and the growth of the peak memory in MiB, loading included."""

    microseconds: float | None
    peak: float | None


def measure(steps: int, data_path: Path, dataset: str, batch_size: int, settings: dict[str, Any]) -> Figures:
    """Load, build, warm up with two steps, and time ``steps`` more."""

    def train() -> float:
        system = ours("finetune", data_path, dataset, batch_size, **settings)
        system.train(2, 0)
        return timed(lambda run: system.train(steps, run), 1)

    rate, peak = peak_memory(train)
    return Figures(1e6 / rate, peak)


_ITEMS = (("10k", 10_000), ("100k", 100_000), ("1M", 1_000_000))
BENCHMARKS = (
    ScaleBenchmark("scale items sampled", tuple((label, _catalogue(label, n), _SAMPLED) for label, n in _ITEMS)),
    ScaleBenchmark("scale items full softmax", tuple((label, _catalogue(label, n), {}) for label, n in _ITEMS[:2])),
    ScaleBenchmark(
        "scale histories", tuple((str(n), _histories(n), {"MAX_ITEM_LIST_LENGTH": n}) for n in (10, 50, 200))
    ),
)
