"""Choose a variant's settings on validation alone, over a grid and with a budget that is the same for all."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from recbole_msm4sr.errors import DivergedError, UserError
from recbole_msm4sr.studies.cells import Cells, Variant
from recbole_msm4sr.training.stage import NOT_IDENTITY

Grid = Mapping[str, Sequence[Any]]


class Search:
    """Optuna's grid search, kept in one file: an interrupted search goes on, and several processes share it.

    Args:
        path: Optuna's journal; read and written with JSON only.
        cells: runs the trials.
        grid: setting to its values; the paper's is in ``properties/study/grid.yaml``.
        n_trials: points of the grid that are tried, drawn without repetition; all of them if the grid is no larger.
        seed: of the drawing and of the trials' runs.
        bigger: whether a larger valid score is better.
    """

    def __init__(
        self, path: str | os.PathLike[str], cells: Cells, grid: Grid, n_trials: int, seed: int, *, bigger: bool
    ) -> None:
        if n_trials < 1:
            raise UserError(f"trials is {n_trials}: every model needs one at least")
        if not grid or not all(grid.values()):
            raise UserError("the grid of settings is empty: give every setting one value or more")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage = JournalStorage(JournalFileBackend(str(path)))
        self.cells, self.grid, self.seed, self.bigger = cells, {k: list(v) for k, v in grid.items()}, seed, bigger
        self.n_trials = min(n_trials, math.prod(len(values) for values in self.grid.values()))

    def best(self, variant: Variant) -> dict[str, Any]:
        """The settings with the best valid score of ``n_trials`` points.

        Raises:
            UserError: training diverged at every point.
        """
        study = optuna.create_study(
            storage=self.storage,
            study_name=self._name(variant),
            direction="maximize" if self.bigger else "minimize",
            sampler=optuna.samplers.GridSampler(self.grid, seed=self.seed),
            load_if_exists=True,
        )

        def valid_score(trial: optuna.Trial) -> float:
            settings = {name: trial.suggest_categorical(name, values) for name, values in self.grid.items()}
            return self.cells.get(variant, settings, self.seed, test=False).valid_score

        def stop_at_budget(study: optuna.Study, _: optuna.trial.FrozenTrial) -> None:
            if len(_finished(study)) >= self.n_trials:
                study.stop()

        if len(_finished(study)) < self.n_trials:
            study.optimize(valid_score, callbacks=[stop_at_budget], catch=(DivergedError,))
        # Several processes may have tried one point more each: the budget is the same for all.
        tried = [trial for trial in _finished(study)[: self.n_trials] if trial.state == TrialState.COMPLETE]
        if not tried:
            raise UserError(
                f"{variant.label} diverged with all settings of the grid: give a grid of lower learning rates"
            )
        sign = 1 if self.bigger else -1
        chosen = max(tried, key=lambda trial: sign * trial.values[0])
        getLogger(__name__).info(
            f"{variant.label}: valid {chosen.value:.4f} with {chosen.params}, best of {len(tried)}"
        )
        return dict(chosen.params)

    def _name(self, variant: Variant) -> str:
        """The search's name in the storage: another variant, grid or data set is another search."""
        learnt = {name: value for name, value in variant.settings.items() if name not in NOT_IDENTITY}
        identity = json.dumps([self.cells.identity, variant.model, learnt, self.grid], sort_keys=True)
        return f"{variant.label} {hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that ended, diverged ones included, in the order in which they began."""
    return study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL))
