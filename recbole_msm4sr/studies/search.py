"""Choose a variant's settings on validation alone, over a grid and with a budget that is the same for all."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState, create_trial

from recbole_msm4sr.core.errors import DivergedError, UserError
from recbole_msm4sr.studies.cells import Cells, Variant
from recbole_msm4sr.studies.journal import open_journal
from recbole_msm4sr.studies.sharing import busy_last

Grid = Mapping[str, Sequence[Any]]


def drawn_points(grid: Grid, n_trials: int, seed: int) -> list[dict[str, Any]]:
    """``n_trials`` points of a grid in random order, without repetition; all of them if there are no more.

    They are the first of the points of any larger ``n_trials``.

    Raises:
        UserError: no points.
    """
    if n_trials < 1:
        raise UserError(f"trials is {n_trials}: every model needs one at least")
    if not grid or not all(isinstance(values, list) and values for values in grid.values()):
        raise UserError("the grid of settings is empty: give every setting a list of one value or more")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    order = np.random.default_rng(seed).permutation(len(points))
    return [points[number] for number in order[:n_trials]]


class Search:
    """Tries the same points for every variant; interrupted, it goes on, and several processes share the work.

    Args:
        path: Optuna's journal, which keeps what was tried; read and written with JSON only.
        cells: runs the trials.
        n_trials: points of a grid that are tried.
        seed: of the drawing and of the trials' runs.
        bigger: whether a larger valid score is better.
    """

    def __init__(self, path: Path, cells: Cells, n_trials: int, seed: int, *, bigger: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.storage = open_journal(path)
        self.cells, self.n_trials, self.seed, self.bigger = cells, n_trials, seed, bigger

    def best(self, variant: Variant, grid: Grid, *, wait: bool = True) -> dict[str, Any]:
        """The point of a grid with the best valid score; of equal ones, the first that was drawn.

        Args:
            grid: setting to its values; the paper's is in ``properties/study/grid.yaml``.

        Raises:
            BlockingIOError: another process tries the last ones, and ``wait`` is false.
            DivergedError: training diverged at every point.
        """
        points = drawn_points(grid, self.n_trials, self.seed)
        study = optuna.create_study(
            storage=self.storage,
            study_name=self._name(variant, grid),
            direction="maximize" if self.bigger else "minimize",
            load_if_exists=True,
        )
        scores: dict[int, float | None] = {}

        def attempt(number: int, wait: bool) -> None:
            try:
                cell = self.cells.get(variant, points[number], self.seed, test=False, wait=wait)
                scores[number] = cell.valid_score
            except DivergedError:
                scores[number] = None
            _record(study, grid, points[number], scores[number])

        busy_last(range(len(points)), attempt, wait=wait)
        sign = 1 if self.bigger else -1
        ranked = sorted((-sign * score, number) for number, score in scores.items() if score is not None)
        if not ranked:
            raise DivergedError(
                f"{variant.label} diverged with all settings of the grid: give a grid of lower learning rates"
            )
        score, number = ranked[0]
        chosen = points[number]
        getLogger(__name__).info(f"{variant.label}: valid {abs(score):.4f} with {chosen}, best of {len(ranked)}")
        return dict(chosen)

    def _name(self, variant: Variant, grid: Grid) -> str:
        """The search's name in the storage: another variant, grid or data set is another search."""
        identity = json.dumps([self.cells.identity(variant, {}), grid, self.seed], sort_keys=True)
        return f"{variant.label} {hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _record(study: optuna.Study, grid: Grid, point: Mapping[str, Any], score: float | None) -> None:
    """Put a trial into Optuna's storage, unless it is there."""
    if any(trial.params == point for trial in study.get_trials(deepcopy=False)):
        return
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(values) for name, values in grid.items()
    }
    state = TrialState.FAIL if score is None else TrialState.COMPLETE
    study.add_trial(create_trial(state=state, value=score, params=dict(point), distributions=distributions))
