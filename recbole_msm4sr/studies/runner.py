"""Carry a study out: every row's search on validation, then its runs with several seeds; each run is done once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recbole_msm4sr import __version__
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.done import DoneRecord, key_of, read_json
from recbole_msm4sr.core.errors import DivergedError, InUseError, UserError
from recbole_msm4sr.core.files import sha256_of_file
from recbole_msm4sr.evaluation.comparison import Comparison, Row, Run
from recbole_msm4sr.evaluation.user_ranks import UserRanks
from recbole_msm4sr.studies.experiments import Study
from recbole_msm4sr.training.recipe import RANKS, run
from recbole_msm4sr.training.run_folder import environment, plain
from recbole_msm4sr.training.stage import NOT_IDENTITY

#: Settings that name a checkpoint to start from: what it holds decides, not where it is.
_STARTS = ("pretrained_path", "pre_model_path")


@dataclass(frozen=True)
class Task:
    """One run: a row with a point of its grid and a seed; ``test`` says whether the test part is looked at."""

    row: Row
    point: Mapping[str, Any]
    seed: int
    test: bool

    @property
    def settings(self) -> dict[str, Any]:
        """All that are not the model's own defaults."""
        return {**self.row.settings, **self.point, "seed": self.seed}

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in {**self.point, "seed": self.seed}.items())
        return f"{self.row.label}: {shown}{'' if self.test else ' (validation)'}"


def compare(study: Study, out: Path) -> tuple[Comparison, list[str]]:
    """Carry out a study that ``plan.check`` has completed; runs that ``out`` holds already are not repeated.

    Returns:
        The comparison, and the labels of rows that diverged whatever the setting or the seed.

    Raises:
        DivergedError: the subject did.
        UserError: what a run raises.
    """
    runs = Runs(out / "cells", study.dataset)
    rows = _search(study, runs)
    seeds = range(study.first_seed, study.first_seed + study.n_seeds)
    outcomes = runs.get_all(
        {(row.label, seed): Task(row, row.chosen, seed, test=True) for row in rows for seed in seeds}
    )
    tested = []
    for row in rows:
        done = {seed: run for seed in seeds if (run := outcomes[row.label, seed]) is not None}
        if done:
            settings = {**row.settings, **row.chosen}
            configuration = Config(row.model, study.dataset, config_dict=settings).resolved
            diverged = [seed for seed in seeds if seed not in done]
            tested.append(replace(row, configuration=configuration, runs=done, diverged=diverged))
    labels = [row.label for row in tested]
    if study.subject not in labels:
        where = "every seed" if study.subject in [row.label for row in rows] else "all settings of the grid"
        raise DivergedError(f"{study.subject} diverged with {where}: give it lower learning rates")
    return Comparison(tested, study.subject), [row.label for row in study.rows if row.label not in labels]


def _search(study: Study, runs: Runs) -> list[Row]:
    """The rows, each with its point of the best valid score, of equal ones the first drawn; none where all diverged."""
    tuned = [row for row in study.rows if row.label == study.subject or not study.tune_once]
    outcomes = runs.get_all(
        {
            (row.label, number): Task(row, point, study.first_seed, test=False)
            for row in tuned
            for number, point in enumerate(row.points)
        }
    )
    chosen: dict[str, Mapping[str, Any]] = {row.label: {} for row in tuned if not row.points}
    for row in tuned:
        found = [(outcomes[row.label, number], point) for number, point in enumerate(row.points)]
        scores = [(run.valid_score, point) for run, point in found if run is not None]
        if scores:
            bigger = Config(row.model, study.dataset, config_dict=row.settings)["valid_metric_bigger"]
            score, point = (max if bigger else min)(scores, key=lambda entry: entry[0])
            chosen[row.label] = point
            getLogger(__name__).info(f"{row.label}: valid {score:.4f} with {dict(point)}, best of {len(scores)}")
    source = {row.label: tuned[0] if study.tune_once else row for row in study.rows}
    return [
        replace(row, points=source[row.label].points, chosen=chosen[source[row.label].label])
        for row in study.rows
        if source[row.label].label in chosen
    ]


class Runs:
    """Finished runs in a folder; several processes may share it.

    Args:
        folder: where they are kept.
        dataset: the data set of all runs.
    """

    def __init__(self, folder: Path, dataset: str) -> None:
        self.folder, self.dataset = folder, dataset

    def get_all(self, tasks: Mapping[Any, Task]) -> dict[Any, Run | None]:
        """``get`` for every task, in order, those last that another process is busy with."""
        outcomes: dict[Any, Run | None] = {}
        for wait in (False, True):
            for name, task in tasks.items():
                if name in outcomes:
                    continue
                try:
                    outcomes[name] = self.get(task, wait=wait)
                except InUseError:
                    continue
        return outcomes

    def get(self, task: Task, *, wait: bool = True) -> Run | None:
        """A task's outcome: read if it is finished, else run. An interrupted run goes on from its last epoch.

        Returns:
            ``None`` if these settings lead to NaN; that, too, is found out only once.

        Raises:
            InUseError: another process runs it, and ``wait`` is false.
            UserError: what the run raises.
        """
        key = key_of({"of": self.identity(task.row, task.settings), "test": task.test})
        record = DoneRecord(self.folder / f"{task.row.model}-{key[:16]}" / "cell.json", key)
        folder = record.path.parent
        with record.lock(wait=wait):
            content = record.read()
            if content is None or not _is_whole(content, folder):
                getLogger(__name__).info(str(task))
                content = plain({**self._run(task, folder), "model": task.row.model, "settings": task.settings})
                if not _is_whole(content, folder):
                    raise UserError(f"{task}: the figures of {content.get('run_folder')} hold NaN or infinity")
                record.write(content)
        return None if content.get("diverged") else _outcome(content, folder)

    def identity(self, row: Row, settings: Mapping[str, Any]) -> list[Any]:
        """All that a row's results with these settings depend on, defaults included, as JSON can hold it.

        Raises:
            UserError: a checkpoint to start from is missing.
        """
        resolved = Config(row.model, self.dataset, config_dict=settings).resolved
        learnt = {name: plain(value) for name, value in resolved.items() if name not in NOT_IDENTITY}
        starts = {name: Path(settings[name]) for name in _STARTS if settings.get(name)}
        for path in starts.values():
            if not path.is_file():
                raise UserError(f"there is no checkpoint {path}")
        hashes = {name: sha256_of_file(path) for name, path in starts.items()}
        return [__version__, self.dataset, dict(row.data), row.model, learnt, hashes]

    def _run(self, task: Task, folder: Path) -> dict[str, Any]:
        """Train, and test if that is asked for; what ``cell.json`` is to hold."""
        label, settings = task.row.label, {**task.settings, "resume": True}
        try:
            result = run(task.row.model, self.dataset, config_dict=settings, test=task.test, console=False)
        except DivergedError as error:
            getLogger(__name__).info(f"{label}: {error}")
            return {"diverged": str(error)}
        run_folder = Path(result["run_folder"])
        metrics = read_json(run_folder / "metrics.json", {"stages": list})
        if metrics is None:
            raise UserError(f"{run_folder}/metrics.json is damaged: run the same command again")
        if result["best_valid_score"] is None:
            raise UserError(f"{label} is trained without validation (eval_step): there is nothing to choose by")
        has_ranks = (run_folder / RANKS).is_file()
        if has_ranks:
            UserRanks.load(run_folder / RANKS).save(folder / RANKS)
        last = metrics["stages"][-1]
        return {
            "valid_score": result["best_valid_score"],
            "test_result": result["test_result"],
            "seconds": sum(stage["seconds"] for stage in metrics["stages"]),
            **{name: last[name] for name in ("n_parameters", "best_epoch", "losses")},
            "versions": environment(),
            "run_folder": str(run_folder),
            "has_ranks": has_ranks,
        }


def _outcome(content: Mapping[str, Any], folder: Path) -> Run:
    """The run that a ``cell.json`` holds, with its ranks."""
    ranks = UserRanks.load(folder / RANKS) if content.get("has_ranks") else None
    return Run.model_validate({**content, "ranks": ranks})


def _is_whole(content: Mapping[str, Any], folder: Path) -> bool:
    try:
        return isinstance(content.get("diverged"), str) or bool(_outcome(content, folder))
    except (ValidationError, UserError):
        return False
