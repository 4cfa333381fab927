"""The single runs that comparisons are made of: each is done once, kept, and never done again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_msm4sr import __version__
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import DivergedError, UserError
from recbole_msm4sr.core.files import locked, sha256_of_file
from recbole_msm4sr.evaluation.user_ranks import UserRanks
from recbole_msm4sr.training.recipe import RANKS, run
from recbole_msm4sr.training.run_folder import environment, plain, write_json
from recbole_msm4sr.training.stage import NOT_IDENTITY

#: Settings that name a checkpoint to start from: what it holds decides, not where it lies.
_STARTS = ("pretrained_path", "pre_model_path")


@dataclass(frozen=True)
class Variant:
    """One row of a comparison: a model and what sets it apart.

    Attributes:
        label: the row's name, ``MSM4SR w/o NIP``.
        model: the model's name.
        settings: all that are not the model's own defaults.
        data: fingerprint of the data that it reads.
    """

    label: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One run's outcome.

    Attributes:
        valid_score: of ``valid_metric``.
        test_result: RecBole's metrics, or ``None`` for a run of a search.
        ranks: of every user's target, if the run was tested and its metrics come from ranks.
        seconds: wall time of the epochs of all its stages, as they were trained, those of reused ones too.
        n_parameters: trainable parameters of the last stage.
        best_epoch: of the last stage, counted from 1; ``None`` where it is not known.
        losses: of the last stage's epochs, with ``record_losses``.
        versions: of what it was run with.
        run_folder: with its whole configuration, log and metrics.
    """

    valid_score: float
    test_result: dict[str, float] | None
    ranks: UserRanks | None
    seconds: float
    n_parameters: int
    best_epoch: int | None
    losses: Sequence[Mapping[str, float]]
    versions: Mapping[str, str]
    run_folder: str


class Cells:
    """Finished cells in a folder; several processes may share it.

    Args:
        folder: where they are kept.
        dataset: the data set of all cells.
    """

    def __init__(self, folder: str | os.PathLike[str], dataset: str) -> None:
        self.folder, self.dataset = Path(folder), dataset

    def get(self, variant: Variant, settings: Mapping[str, Any], seed: int, *, test: bool, wait: bool = True) -> Cell:
        """The cell of a variant with some more settings and a seed: read if it is finished, else run.

        An interrupted run goes on from its last finished epoch. While one process runs a cell the others that want it
        wait for it.

        Raises:
            BlockingIOError: another process runs it, and ``wait`` is false.
            DivergedError: these settings lead to NaN; that, too, is found out only once.
            UserError: what the run raises.
        """
        merged = {**settings, "seed": seed}
        folder = self.folder / f"{variant.model}-{self._key(variant, merged, test)}"
        with locked(folder / "lock", wait=wait):
            if not (folder / "cell.json").is_file():
                shown = ", ".join(f"{name}={value}" for name, value in merged.items())
                getLogger(__name__).info(f"{variant.label}: {shown}{'' if test else ' (validation)'}")
                self._run(folder, variant, {**variant.settings, **merged}, test)
        return _read(folder)

    def identity(self, variant: Variant, settings: Mapping[str, Any]) -> list[Any]:
        """All that a variant's results with some more settings depend on, defaults included, as JSON can hold it.

        Raises:
            UserError: a checkpoint to start from is missing.
        """
        merged = {**variant.settings, **settings}
        resolved = Config(variant.model, self.dataset, config_dict=merged).resolved
        learnt = {name: plain(value) for name, value in resolved.items() if name not in NOT_IDENTITY}
        starts = {name: Path(merged[name]) for name in _STARTS if merged.get(name)}
        for path in starts.values():
            if not path.is_file():
                raise UserError(f"there is no checkpoint {path}")
        hashes = {name: sha256_of_file(path) for name, path in starts.items()}
        return [__version__, self.dataset, dict(variant.data), variant.model, learnt, hashes]

    def _key(self, variant: Variant, settings: Mapping[str, Any], test: bool) -> str:
        content = json.dumps([self.identity(variant, settings), test], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _run(self, folder: Path, variant: Variant, settings: Mapping[str, Any], test: bool) -> None:
        kept = {"model": variant.model, "settings": dict(settings), "data": dict(variant.data)}
        try:
            result = run(
                variant.model, self.dataset, config_dict={**settings, "resume": True}, test=test, console=False
            )
        except DivergedError as error:
            getLogger(__name__).info(f"{variant.label}: {error}")
            write_json(folder / "cell.json", {**kept, "diverged": str(error)})
            return
        run_folder = Path(result["run_folder"])
        stages = json.loads((run_folder / "metrics.json").read_text(encoding="utf-8"))["stages"]
        if result["best_valid_score"] is None:
            raise UserError(f"{variant.label} is trained without validation (eval_step): there is nothing to choose by")
        if (run_folder / RANKS).is_file():
            UserRanks.load(run_folder / RANKS).save(folder / RANKS)
        write_json(
            folder / "cell.json",
            {
                **kept,
                "valid_score": result["best_valid_score"],
                "test_result": result["test_result"],
                "seconds": sum(stage["seconds"] for stage in stages),
                "n_parameters": stages[-1]["n_parameters"],
                "best_epoch": stages[-1]["best_epoch"],
                "losses": stages[-1]["losses"],
                "versions": environment(),
                "run_folder": str(run_folder),
            },
        )


def _read(folder: Path) -> Cell:
    content = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    if "diverged" in content:
        raise DivergedError(content["diverged"])
    ranks = UserRanks.load(folder / RANKS) if (folder / RANKS).is_file() else None
    return Cell(ranks=ranks, **{name: content[name] for name in Cell.__dataclass_fields__ if name != "ranks"})
