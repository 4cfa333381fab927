"""The single runs that comparisons are made of: each is done once, kept, and never done again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_msm4sr import __version__
from recbole_msm4sr.errors import UserError
from recbole_msm4sr.evaluation.user_ranks import UserRanks
from recbole_msm4sr.training.recipe import RANKS, run
from recbole_msm4sr.training.run_folder import write_json
from recbole_msm4sr.training.stage import NOT_IDENTITY


@dataclass(frozen=True)
class Variant:
    """One row of a comparison: a model and what sets it apart.

    Attributes:
        label: the row's name, ``MSM4SR w/o NIP``.
        model: the model's name.
        settings: all that are not the model's own defaults.
    """

    label: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One run's outcome.

    Attributes:
        valid_score: of ``valid_metric``.
        test_result: RecBole's metrics, or ``None`` for a run of a search.
        ranks: of every user's target, if the run was tested and its metrics come from ranks.
        seconds: wall time of all its stages, as they were trained.
        n_parameters: trainable parameters of the last stage.
    """

    valid_score: float
    test_result: dict[str, float] | None
    ranks: UserRanks | None
    seconds: float
    n_parameters: int


class Cells:
    """Finished cells in a folder; several processes may share it.

    Args:
        folder: where they are kept.
        dataset: the data set of all cells.
        data: fingerprint of the data: cells of other data are other cells.
    """

    def __init__(self, folder: str | os.PathLike[str], dataset: str, data: Mapping[str, str]) -> None:
        self.folder, self.dataset, self.data = Path(folder), dataset, dict(data)

    def get(self, variant: Variant, settings: Mapping[str, Any], seed: int, *, test: bool) -> Cell:
        """The cell of a variant with some more settings and a seed: read if it is finished, else run.

        An interrupted run goes on from its last finished epoch. While one process runs a cell the others that want it
        wait for it.

        Raises:
            UserError: what the run raises; ``DivergedError`` if these settings lead to NaN.
        """
        merged = {**variant.settings, **settings, "seed": seed}
        folder = self.folder / f"{variant.model}-{self._key(variant.model, merged, test)}"
        with _locked(folder):
            if not (folder / "cell.json").is_file():
                shown = ", ".join(f"{name}={value}" for name, value in {**settings, "seed": seed}.items())
                getLogger(__name__).info(f"{variant.label}: {shown}{'' if test else ' (validation)'}")
                self._run(folder, variant, merged, test)
        return _read(folder)

    @property
    def identity(self) -> list[Any]:
        """What all cells have in common: results of another identity are no results of this comparison."""
        return [__version__, self.dataset, self.data]

    def _key(self, model: str, settings: Mapping[str, Any], test: bool) -> str:
        learnt = {name: value for name, value in settings.items() if name not in NOT_IDENTITY}
        identity = [self.identity, model, learnt, test]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def _run(self, folder: Path, variant: Variant, settings: Mapping[str, Any], test: bool) -> None:
        result = run(variant.model, self.dataset, config_dict={**settings, "resume": True}, test=test, console=False)
        run_folder = Path(result["run_folder"])
        metrics = json.loads((run_folder / "metrics.json").read_text(encoding="utf-8"))
        if result["best_valid_score"] is None:
            raise UserError(f"{variant.label} is trained without validation (eval_step): there is nothing to choose by")
        if (run_folder / RANKS).is_file():
            UserRanks.load(run_folder / RANKS).save(folder / RANKS)
        write_json(
            folder / "cell.json",
            {
                "model": variant.model,
                "settings": dict(settings),
                "data": self.data,
                "valid_score": result["best_valid_score"],
                "test_result": result["test_result"],
                "seconds": sum(stage["seconds"] for stage in metrics["stages"]),
                "n_parameters": metrics["stages"][-1]["n_parameters"],
                "run_folder": str(run_folder),
            },
        )


def _read(folder: Path) -> Cell:
    content = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    ranks = UserRanks.load(folder / RANKS) if (folder / RANKS).is_file() else None
    wanted = ("valid_score", "test_result", "seconds", "n_parameters")
    return Cell(ranks=ranks, **{name: content[name] for name in wanted})


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when a process ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
