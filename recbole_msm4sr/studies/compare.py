"""Compare models fairly: one split, one budget of search on validation for each, several seeds, paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from recbole.evaluator.register import smaller_metrics

from recbole_msm4sr.config import Config
from recbole_msm4sr.data import preparation
from recbole_msm4sr.errors import DivergedError, UserError
from recbole_msm4sr.evaluation import report
from recbole_msm4sr.evaluation.user_ranks import METRICS, UserRanks
from recbole_msm4sr.studies.cells import Cell, Cells, Variant
from recbole_msm4sr.studies.search import Grid, Search, drawn_points
from recbole_msm4sr.studies.significance import by_user, holm, mean_over_seeds, paired_p_value


@dataclass(frozen=True)
class Plan:
    """What is compared, and how.

    Attributes:
        dataset: the data set's name.
        variants: the rows.
        subject: label of the row that all others are compared with.
        settings: of every row whose model reads them.
        grid: searched for every row, as far as its model reads it; empty: no search.
        n_trials: points of the grid tried for every row.
        n_seeds: runs of every row with its best settings.
        first_seed: of the search and the first run.
        tune_once: search for the subject alone and use its settings for all rows: an ablation.
    """

    dataset: str
    variants: Sequence[Variant]
    subject: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Grid = field(default_factory=dict)
    n_trials: int = 9
    n_seeds: int = 3
    first_seed: int = 2020
    tune_once: bool = False

    def check(self) -> None:
        """Raise a ``UserError`` for a plan that cannot be carried out."""
        labels = [variant.label for variant in self.variants]
        if len(set(labels)) < len(labels):
            raise UserError(f"two rows have the same name: {', '.join(labels)}")
        if self.subject not in labels:
            raise UserError(f"{self.subject} is not among the rows ({', '.join(labels)})")
        if self.n_seeds < 1:
            raise UserError(f"seeds is {self.n_seeds}: it must be 1 or more")
        if any("seed" in settings for settings in (self.settings, *(variant.settings for variant in self.variants))):
            raise UserError("seed is a list here: give --seeds (how many) and --first_seed")
        if self.grid:
            drawn_points(self.grid, self.n_trials, self.first_seed)


@dataclass(frozen=True)
class Row:
    """A variant's outcome.

    Attributes:
        chosen: the settings that validation chose.
        n_tried: of how many.
        configuration: every setting, defaults included, of all seeds.
        cells: by seed.
        diverged: seeds that led to NaN, and have no cell.
    """

    variant: Variant
    chosen: Mapping[str, Any]
    n_tried: int
    configuration: Mapping[str, Any]
    cells: Mapping[int, Cell]
    diverged: Sequence[int] = ()

    def values(self, metric: str) -> list[float]:
        """The test metric of every seed."""
        return [cell.test_result[metric] for cell in self.cells.values() if cell.test_result is not None]

    @property
    def ranks(self) -> list[UserRanks] | None:
        """The ranks of every seed; ``None`` if a run has none."""
        ranks = [cell.ranks for cell in self.cells.values() if cell.ranks is not None]
        return ranks if len(ranks) == len(self.cells) else None

    def mean(self, metric: str) -> float:
        """Over seeds."""
        return float(np.mean(self.values(metric)))

    def sd(self, metric: str) -> float | None:
        """Sample standard deviation over seeds; ``None`` of a single one."""
        values = self.values(metric)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """A finished comparison; ``p_values[(label, metric)]`` are corrected for their number.

    Attributes:
        p_values: of every row against the subject; for the subject, against the best other row.
        diverged: labels of rows that led to NaN whatever the setting or the seed, and are not among the others.
    """

    plan: Plan
    rows: Sequence[Row]
    p_values: Mapping[tuple[str, str], float]
    diverged: Sequence[str] = ()

    @property
    def metrics(self) -> list[str]:
        """Names of the test metrics, in RecBole's order."""
        return list(next(iter(self.rows[0].cells.values())).test_result or {})

    @property
    def widest_metric(self) -> str | None:
        """Recall over the longest list; ``None`` if there is no such metric."""
        recall = [name for name in self.metrics if name.startswith("recall@")]
        return max(recall, key=lambda name: int(name.partition("@")[2]), default=None)

    @property
    def subject(self) -> Row:
        """The row that the others are compared with."""
        return next(row for row in self.rows if row.variant.label == self.plan.subject)

    @property
    def others(self) -> list[Row]:
        """All rows but the subject."""
        return [row for row in self.rows if row is not self.subject]

    def best_other(self, metric: str) -> Row | None:
        """The strongest other row by a metric's mean; ``None`` if there is none."""
        return best(self.others, metric) if self.others else None


def _is_of_users(metric: str) -> bool:
    """Whether single users have a metric."""
    return metric.partition("@")[0] in METRICS


def sign_of(metric: str) -> int:
    """1 if a larger value of a metric is better, -1 if a smaller one is."""
    return -1 if metric.partition("@")[0] in smaller_metrics else 1


def best(rows: Sequence[Row], metric: str) -> Row:
    """The row with the best mean."""
    return max(rows, key=lambda row: sign_of(metric) * row.mean(metric))


def compare(plan: Plan, out: Path) -> Comparison:
    """Carry a plan out; what ``out`` holds of it already is not done again.

    Raises:
        DivergedError: the subject led to NaN whatever the setting or the seed.
        UserError: the plan, the data or a model's settings cannot be used.
    """
    variants, configs = check(plan)
    cells = Cells(out / "cells", plan.dataset)
    search = None
    if plan.grid:
        bigger = configs[0]["valid_metric_bigger"]
        search = Search(out / "search.journal", cells, plan.n_trials, plan.first_seed, bigger=bigger)
    subject = next(variant for variant in variants if variant.label == plan.subject)
    rows, diverged = [], []
    for number, variant in enumerate(variants, start=1):
        getLogger(__name__).info(f"{variant.label} ({number} of {len(variants)})")
        tuned = subject if plan.tune_once else variant
        grid = _readable_grid(plan, tuned)
        try:
            chosen = search.best(tuned, grid) if search and grid else {}
            tested = _run_seeds(plan, variant, chosen, cells)
        except DivergedError as error:
            if variant is subject:
                raise
            getLogger(__name__).info(f"{error}; its row is left out")
            diverged.append(variant.label)
            continue
        n_tried = len(drawn_points(grid, plan.n_trials, plan.first_seed)) if search and grid else 0
        configuration = Config(variant.model, plan.dataset, config_dict={**variant.settings, **chosen}).resolved
        done = {seed: cell for seed, cell in tested.items() if cell is not None}
        rows.append(Row(variant, chosen, n_tried, configuration, done, sorted(set(tested) - set(done))))
    return Comparison(plan, rows, p_values(rows, plan.subject), diverged)


def check(plan: Plan) -> tuple[list[Variant], list[Config]]:
    """Find what is wrong with a plan before anything is run: a typo in the last row's settings, too.

    Returns:
        The plan's variants with all their settings and the data that they read, and their configurations.

    Raises:
        UserError: the plan, the data or a model's settings cannot be used.
    """
    plan.check()
    variants = _with_common_settings(plan)
    configs = [Config(variant.model, plan.dataset, config_dict=variant.settings) for variant in variants]
    _check_grid(plan, variants)
    return _with_data(variants, configs), configs


def _run_seeds(plan: Plan, variant: Variant, chosen: Mapping[str, Any], cells: Cells) -> dict[int, Cell | None]:
    """Run and test a variant with its best settings.

    Returns:
        The cell of every seed, in their order; ``None`` of one that diverged.

    Raises:
        DivergedError: it diverged with every seed.
        UserError: what a run raises.
    """
    tested: dict[int, Cell | None] = {}
    missing = list(range(plan.first_seed, plan.first_seed + plan.n_seeds))
    for wait in (False, True):  # what another process is at comes last
        for seed in list(missing):
            try:
                tested[seed] = cells.get(variant, chosen, seed, test=True, wait=wait)
            except BlockingIOError:
                continue
            except DivergedError:
                tested[seed] = None
            missing.remove(seed)
    if not any(tested.values()):
        raise DivergedError(f"{variant.label} diverged with every seed: give it a lower learning rate")
    return dict(sorted(tested.items()))


def _with_common_settings(plan: Plan) -> list[Variant]:
    """The variants with those of the common settings that their models read; a row's own settings win.

    Raises:
        UserError: no row reads a common setting.
    """
    variants = [
        replace(variant, settings={**readable(variant.model, plan.dataset, plan.settings), **variant.settings})
        for variant in plan.variants
    ]
    unread = {key: value for key, value in plan.settings.items() if all(key not in v.settings for v in variants)}
    if unread:
        Config(variants[-1].model, plan.dataset, config_dict=unread)  # which says what was meant
    return variants


def _readable_grid(plan: Plan, variant: Variant) -> Grid:
    """The settings of the grid that a row's model reads."""
    keys = readable(variant.model, plan.dataset, {key: values[0] for key, values in plan.grid.items()})
    return {key: plan.grid[key] for key in keys}


def _check_grid(plan: Plan, variants: Sequence[Variant]) -> None:
    """Find values of the grid that a row cannot have before anything is run.

    Raises:
        UserError: no row reads a setting, a model refuses a value, or a row has the setting given.
    """
    grids = [_readable_grid(plan, variant) for variant in variants]
    unread = {key: values[0] for key, values in plan.grid.items() if all(key not in grid for grid in grids)}
    if unread:
        Config(variants[-1].model, plan.dataset, config_dict=unread)  # which says what was meant
    for variant, grid in zip(variants, grids, strict=True):
        for key in grid:
            if key in variant.settings:
                raise UserError(
                    f"{key} is given for {variant.label} and searched as well: leave it out, or give a --grid without "
                    "it, or --trials=0"
                )
        # Settings are checked one by one, so a few points that have every value between them stand for all.
        longest = max(map(len, grid.values()), default=0)
        for place in range(longest):
            point = {key: values[place % len(values)] for key, values in grid.items()}
            Config(variant.model, plan.dataset, config_dict={**variant.settings, **point})


def _with_data(variants: Sequence[Variant], configs: Sequence[Config]) -> list[Variant]:
    """The variants with the fingerprints of the data that they read.

    Raises:
        UserError: the data cannot be used, or two rows would not be tested alike.
    """
    known = [replace(v, data=preparation.load(c).fingerprint) for v, c in zip(variants, configs, strict=True)]
    first = _tested_by(known[0], configs[0])
    for variant, config in zip(known, configs, strict=True):
        own = _tested_by(variant, config)
        differing = [key for key in first if own[key] != first[key]]
        if differing:
            raise UserError(
                f"{variant.label} and {known[0].label} cannot be compared: they differ in {', '.join(differing)}"
            )
    return known


def _tested_by(variant: Variant, config: Config) -> dict[str, Any]:
    """What rows must share for their metrics to be of the same users and items, and chosen alike."""
    settings = report.evaluation_settings(config)
    del settings["MAX_ITEM_LIST_LENGTH"]  # how much of a history a model reads is its own affair
    keys = ("metrics", "topk", "valid_metric")
    return {"interactions": variant.data["interactions"], **settings, **{key: config[key] for key in keys}}


def readable(model: str, dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``settings`` that a model reads."""
    read = Config(model, dataset, config_dict=settings, drop_unread=True).external_config_dict
    return {key: value for key, value in settings.items() if key in read}


def _with_ranks(cell: Cell, ranks: UserRanks) -> Cell:
    """The cell with other ranks, and those of its test metrics that follow from them."""
    names = filter(_is_of_users, cell.test_result or {})
    return replace(cell, ranks=ranks, test_result={name: float(ranks.metric(name).mean()) for name in names})


def among_unseen(comparison: Comparison) -> Comparison | None:
    """The same runs with the items of a user's history left out of the ranking; ``None`` without ranks of users."""
    if any(row.ranks is None for row in comparison.rows) or not any(map(_is_of_users, comparison.metrics)):
        return None
    rows = []
    for row in comparison.rows:
        cells = {seed: _with_ranks(cell, cell.ranks.among_unseen()) for seed, cell in row.cells.items() if cell.ranks}
        rows.append(replace(row, cells=cells))
    return replace(comparison, rows=rows, p_values=p_values(rows, comparison.plan.subject))


def p_values(rows: Sequence[Row], subject_label: str) -> dict[tuple[str, str], float]:
    """Paired tests of the subject against every other row, on every metric that single users have."""
    subject = next(row for row in rows if row.variant.label == subject_label)
    others = [row for row in rows if row is not subject]
    ranks: dict[str, list[UserRanks]] = {}
    for row in rows:
        if row.ranks is None:
            return {}  # sampled evaluation, or several targets a user: there are no ranks to test
        ranks[row.variant.label] = row.ranks
    ordered = iter(by_user([run for runs in ranks.values() for run in runs]))
    ranks = {label: [next(ordered) for _ in runs] for label, runs in ranks.items()}
    raw: dict[tuple[str, str], float] = {}
    for metric in next(iter(rows[0].cells.values())).test_result or {}:
        if not _is_of_users(metric):
            continue
        own = mean_over_seeds(ranks[subject_label], metric)
        for row in others:
            raw[row.variant.label, metric] = paired_p_value(own, mean_over_seeds(ranks[row.variant.label], metric))
    corrected = holm(raw)
    for metric in {metric for _, metric in raw}:
        corrected[subject_label, metric] = corrected[best(others, metric).variant.label, metric]
    return corrected
