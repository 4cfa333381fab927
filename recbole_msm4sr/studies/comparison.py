"""The outcome of a comparison: rows, their means, and paired tests between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from recbole.evaluator.register import smaller_metrics

from recbole_msm4sr.evaluation.user_ranks import METRICS, UserRanks
from recbole_msm4sr.studies.cells import Cell, Variant
from recbole_msm4sr.studies.plan import Plan
from recbole_msm4sr.studies.significance import by_user, holm, mean_over_seeds, paired_p_value


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
