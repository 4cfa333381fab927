"""What every benchmark is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.generate import TINY, DatasetSize, generate


@dataclass(frozen=True)
class Context:
    """How the benchmarks are run.

    Attributes:
        data_path: folder of data sets; generated ones are kept in it.
        quick: tiny data and single runs, to see that everything works; the figures mean nothing.
        budget: seconds that the literal version may train in the benchmark of the whole recipe.
    """

    data_path: Path
    quick: bool = False
    budget: float = 1800.0

    def dataset(self, size: DatasetSize) -> str:
        """Name of the generated data set; made before anything is timed."""
        size = TINY if self.quick else size
        generate(size, self.data_path)
        return size.name

    @property
    def batch_size(self) -> int:
        """Pairs of a training step."""
        return 64 if self.quick else 1024

    def times(self, repeats: int) -> int:
        """Timed runs of each side."""
        return 1 if self.quick else repeats

    def steps(self, steps: int) -> int:
        """Training steps of a run."""
        return 1 if self.quick else steps
