"""Loading: seconds and peak memory from the ``.inter`` file to the first training batch, each in a fresh process."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from recbole.data.dataset import SequentialDataset
from recbole.data.utils import create_samplers, get_dataloader

from benchmarks.context import Context
from benchmarks.fresh_process import in_fresh_process, peak_memory
from benchmarks.generate import INTERACTIONS_1M, INTERACTIONS_10M, INTERACTIONS_131K, TINY, DatasetSize
from benchmarks.measure import progress
from benchmarks.rows import Row
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.data import loading
from recbole_msm4sr.data.dataloader import PackedDataLoader

_PARSED_BYTES = 24  # user and item as int64, time as float64


@dataclass(frozen=True)
class LoadingBenchmark:
    """Ours against RecBole's SequentialDataset and loader, which read with pandas' C parser here (``compat``).

    Attributes:
        name: of the first row; the second has the peak memory.
        size: the data set, interactions alone.
        repeats: runs of each side.
        time_limit: seconds after which a run is given up.
    """

    name: str
    size: DatasetSize
    repeats: int
    time_limit: float = 900.0

    def __call__(self, context: Context) -> list[Row]:
        dataset, warm_up = context.dataset(self.size), context.dataset(TINY)
        file = context.data_path / dataset / f"{dataset}.inter"
        n_interactions = file.read_bytes().count(b"\n") - 1  # the file is cached now, for both
        loads: dict[str, list[Load]] = {"ours": [], "stock": []}
        failures: dict[str, str] = {}
        for _ in range(context.times(self.repeats)):
            for system in [system for system in loads if system not in failures]:
                outcome = in_fresh_process(
                    measure, system, context.data_path, dataset, warm_up, time_limit=self.time_limit
                )
                progress(f"    {system}: {outcome.failure or '{:.3g} s, {:,.0f} MiB'.format(*outcome.value)}")
                if outcome.failure:
                    failures[system] = outcome.failure
                else:
                    loads[system].append(outcome.value)
        details = {
            "interactions": n_interactions,
            "file_bytes": file.stat().st_size,
            "parsed_bytes": _PARSED_BYTES * n_interactions,
        }
        notes = [f"{system} {failure}" for system, failure in failures.items()]
        seconds = _row(self.name, "s", [[load.seconds for load in runs] for runs in loads.values()], notes, details)
        peaks = [[load.peak for load in runs] for runs in loads.values()]
        if peaks[0]:
            growth = statistics.median(peaks[0]) * 2**20
            notes = [
                f"ours: {growth / details['file_bytes']:.1f} x the file, {growth / details['parsed_bytes']:.1f} x "
                "the parsed numbers",
                *notes,
            ]
        return [seconds, _row(f"{self.name}, peak memory", "MiB", peaks, notes, details)]


class Load(NamedTuple):
    """One loading: wall time, and the growth of the peak memory in MiB."""

    seconds: float
    peak: float


def measure(system: str, data_path: Path, dataset: str, warm_up: str) -> Load:
    """Load the data set ``warm_up``, so that code is in memory, then, measured, ``dataset``."""
    load = {"ours": load_ours, "stock": load_stock}[system]
    load(*_configs(data_path, warm_up))
    configs = _configs(data_path, dataset)
    began = perf_counter()
    _, growth = peak_memory(load, *configs)
    return Load(perf_counter() - began, growth)


def load_ours(config: Any, packed: Any) -> Any:
    """First packed batch; ``config`` names no features, ``packed`` has the settings of packed training."""
    return next(iter(PackedDataLoader(packed, loading.load(config).parts[0])))


def load_stock(config: Any, packed: Any) -> Any:
    """First batch of RecBole's own classes."""
    dataset = SequentialDataset(config)
    parts = dataset.build()
    sampler = create_samplers(config, dataset, parts)[0]
    return next(iter(get_dataloader(config, "train")(config, parts[0], sampler, shuffle=True)))


def _configs(data_path: Path, dataset: str) -> tuple[Config, Config]:
    settings = {"data_path": str(data_path)}
    packed = Config("MSM4SR", dataset, None, settings)
    return Config("SASRec", dataset, None, {**settings, "train_batch_size": packed["train_batch_size"]}), packed


def _row(name: str, unit: str, runs: list[list[float]], notes: list[str], details: dict[str, Any]) -> Row:
    ours, stock = (statistics.median(figures) if figures else None for figures in runs)
    spread = [[min(figures), max(figures)] if figures else None for figures in runs]
    return Row(name, unit, ours, stock, {"note": "; ".join(notes), "spread": spread, **details})


BENCHMARKS = (
    LoadingBenchmark("loading 131k vs stock", INTERACTIONS_131K, repeats=5),
    LoadingBenchmark("loading 1M vs stock", INTERACTIONS_1M, repeats=3),
    LoadingBenchmark("loading 10M", INTERACTIONS_10M, repeats=1),
)
