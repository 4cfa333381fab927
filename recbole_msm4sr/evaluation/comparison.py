"""The outcome of a comparison: one tidy table of (row, seed, metric, value), and paired tests between rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, InstanceOf
from recbole.evaluator.register import smaller_metrics

from recbole_msm4sr.evaluation.significance import by_user, holm, mean_over_seeds, paired_p_value
from recbole_msm4sr.evaluation.user_ranks import METRICS, UserRanks


class Run(BaseModel):
    """One run's outcome.

    Attributes:
        valid_score: of ``valid_metric``.
        test_result: RecBole's metrics, or ``None`` for a run of a search.
        seconds: wall time of the epochs of all its stages, as they were trained, those of reused ones too.
        n_parameters: trainable parameters of the last stage.
        best_epoch: of the last stage, counted from 1; ``None`` where it is not known.
        losses: of the last stage's epochs, with ``record_losses``.
        versions: of what it was run with.
        run_folder: with its whole configuration, log and metrics.
        ranks: of every user's target, if the run was tested and its metrics come from ranks.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    valid_score: float
    test_result: dict[str, float] | None
    seconds: float
    n_parameters: int
    best_epoch: int | None
    losses: list[dict[str, float]]
    versions: dict[str, str]
    run_folder: str
    ranks: InstanceOf[UserRanks] | None = None


@dataclass(frozen=True)
class Row:
    """A row of a comparison: a model with its settings, and, once it was run, what came out.

    Attributes:
        label: its name, unique in a comparison: ``w/o NIP``.
        settings: all that are not the model's own defaults and that validation did not choose.
        data: fingerprint of the data that it reads.
        points: settings of which validation chooses.
        chosen: the point that it chose.
        configuration: every setting, defaults included, of all seeds.
        runs: by seed.
        diverged: seeds that led to NaN, and have no run.
    """

    label: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    points: Sequence[Mapping[str, Any]] = ()
    chosen: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    runs: Mapping[int, Run] = field(default_factory=dict)
    diverged: Sequence[int] = ()


class Comparison:
    """Rows, and the tables that follow from them.

    Args:
        rows: one or more, of the same test users, targets and items.
        subject: label of the row that the others are compared with.
        unseen: rank targets among the items that their users have no other interaction with; the metrics are then
            those of single users alone.

    Attributes:
        values: the tidy table, with the columns ``label``, ``seed``, ``metric``, ``value``.
        ranks: of every row's runs, by label, users in one order; ``None`` where a run has none.
        p_values: by label and metric, corrected for their number; of every row against the subject, and for the
            subject, against the best other row.
    """

    def __init__(self, rows: Sequence[Row], subject: str, *, unseen: bool = False) -> None:
        self.rows, self.labels = rows, [row.label for row in rows]
        self.subject = next(row for row in rows if row.label == subject)
        self.others = [label for label in self.labels if label != subject]
        self.ranks = _ranks_by_label(rows, unseen=unseen)
        results = [
            (row.label, seed, _among_unseen(run) if unseen else run.test_result or {})
            for row in rows
            for seed, run in row.runs.items()
        ]
        self.values = pd.DataFrame(
            [(label, seed, *entry) for label, seed, result in results for entry in result.items()],
            columns=["label", "seed", "metric", "value"],
        )
        self.metrics: list[str] = list(self.values["metric"].unique())
        self._mean = self.values.groupby(["label", "metric"], sort=False)["value"].mean()
        self.p_values = self._paired_tests()

    def mean(self, label: str, metric: str) -> float:
        """A row's test metric, over seeds."""
        return float(self._mean[label, metric])

    @property
    def widest_metric(self) -> str | None:
        """Recall over the longest list; ``None`` if there is no such metric."""
        recall = [name for name in self.metrics if name.startswith("recall@")]
        return max(recall, key=lambda name: int(name.partition("@")[2]), default=None)

    def best(self, labels: Sequence[str], metric: str) -> str:
        """The row with the best mean."""
        return max(labels, key=lambda label: sign_of(metric) * self.mean(label, metric))

    def table(self) -> pd.DataFrame:
        """One line a row and metric: ``model``, ``metric``, ``mean``, ``sd`` (NaN of one seed), ``seeds``, ``p_value``.

        ``p_value`` is that of the paired, two-sided test against the subject; of the subject, against the best other
        row, whichever of them is better; corrected for the number of tests, NaN where there was none.
        """
        grouped = self.values.groupby(["label", "metric"], sort=False)["value"]
        table = grouped.agg(mean="mean", sd="std", seeds="count").reset_index().rename(columns={"label": "model"})
        names = zip(table["model"], table["metric"], strict=True)
        return table.assign(p_value=[self.p_values.get(name, np.nan) for name in names])

    def metrics_of_users(self, metric: str) -> pd.DataFrame:
        """A metric of every user, averaged over seeds, a column for every row; needs ``ranks``."""
        return pd.DataFrame({label: mean_over_seeds(runs, metric) for label, runs in (self.ranks or {}).items()})

    def losses(self) -> pd.DataFrame:
        """One line a row, seed and epoch: ``model``, ``seed``, ``epoch``, ``train``, ``valid``, ``test``."""
        lines = [
            {"model": row.label, "seed": seed, "epoch": epoch, **losses}
            for row in self.rows
            for seed, run in row.runs.items()
            for epoch, losses in enumerate(run.losses, start=1)
        ]
        return pd.DataFrame(lines, columns=["model", "seed", "epoch", "train", "valid", "test"])

    def _paired_tests(self) -> dict[tuple[str, str], float]:
        """Of the subject against every other row, on every metric that single users have."""
        if self.ranks is None or not self.others:
            return {}
        subject, raw = self.subject.label, {}
        metrics = [metric for metric in self.metrics if _is_of_users(metric)]
        for metric in metrics:
            users = self.metrics_of_users(metric)
            for label in self.others:
                raw[label, metric] = paired_p_value(users[subject].to_numpy(), users[label].to_numpy())
        own = {(subject, metric): (self.best(self.others, metric), metric) for metric in metrics}
        corrected = holm(raw)
        return {**corrected, **{name: corrected[against] for name, against in own.items()}}


def among_unseen(comparison: Comparison) -> Comparison | None:
    """The same runs with the items of a user's history left out of the ranking; ``None`` without ranks of users."""
    if comparison.ranks is None or not any(map(_is_of_users, comparison.metrics)):
        return None
    return Comparison(comparison.rows, comparison.subject.label, unseen=True)


def sign_of(metric: str) -> int:
    """1 if a larger value of a metric is better, -1 if a smaller one is."""
    return -1 if metric.partition("@")[0] in smaller_metrics else 1


def _is_of_users(metric: str) -> bool:
    """Whether single users have a metric."""
    return metric.partition("@")[0] in METRICS


def _among_unseen(run: Run) -> dict[str, float]:
    """Those of a run's metrics that single users have, among unseen items."""
    names = filter(_is_of_users, run.test_result or {})
    return {name: float(run.ranks.among_unseen().metric(name).mean()) for name in names if run.ranks}


def _ranks_by_label(rows: Sequence[Row], *, unseen: bool) -> dict[str, list[UserRanks]] | None:
    ranks = [run.ranks for row in rows for run in row.runs.values() if run.ranks is not None]
    if len(ranks) < sum(len(row.runs) for row in rows):
        return None  # sampled evaluation, or several targets a user
    ordered = iter(by_user([run.among_unseen() if unseen else run for run in ranks]))
    return {row.label: [next(ordered) for _ in row.runs] for row in rows}
