"""Tables of a comparison in Markdown: test metrics, cost and chosen settings, losses, groups of users, gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from recbole_msm4sr.evaluation.comparison import Comparison, Row, sign_of
from recbole_msm4sr.evaluation.groups import by_history, by_warmth

#: Gain of a row over another, 0.1 for 10 %, by label and metric.
Gains = Mapping[tuple[str, str], float]
BEST_OTHER = "best other row"


def markdown(table: pd.DataFrame, *, index: bool = False) -> str:
    """A table of text as Markdown; ``index`` shows the lines' names under an empty heading."""
    return table.to_markdown(index=index, disable_numparse=True)


def metrics_table(comparison: Comparison) -> str:
    """A line a metric: every row's mean and standard deviation over seeds, and the gain over the best other row."""
    table = comparison.table()
    best = {name: comparison.mean(comparison.best(comparison.labels, name), name) for name in comparison.metrics}

    def text(line: pd.Series) -> str:
        mean = f"**{line['mean']:.4f}**" if line["mean"] == best[line["metric"]] else f"{line['mean']:.4f}"
        sd = "" if pd.isna(line["sd"]) else f" ± {line['sd']:.4f}"
        return mean + sd + _mark(comparison, line["model"], line["metric"])

    table["text"] = table.apply(text, axis=1)
    wide = table.pivot(index="metric", columns="model", values="text").loc[comparison.metrics, comparison.labels]
    if comparison.others:
        wide["gain"] = [_gain(comparison, comparison.best(comparison.others, metric), metric) for metric in wide.index]
    return markdown(wide.rename_axis(index=None), index=True)


def _mark(comparison: Comparison, label: str, metric: str) -> str:
    """Stars for a row that the subject beats, daggers for one that beats it."""
    p_value, subject = comparison.p_values.get((label, metric)), comparison.subject.label
    if p_value is None or label == subject or p_value >= 0.05:
        return ""
    mark = "\\*" if comparison.best([subject, label], metric) == subject else "†"
    return f" {2 * mark if p_value < 0.01 else mark}"


def notes(comparison: Comparison, diverged: Sequence[str]) -> str:
    """What the marks in the table of metrics mean, and what is missing in it.

    Args:
        diverged: labels of rows that led to NaN whatever the setting or the seed, and are not in the comparison.
    """
    subject, sentences = comparison.subject.label, []
    if comparison.others:
        sentences.append(f"Gain: {subject} over the best other row.")
    if comparison.p_values:
        n_tests = sum(label != subject for label, _ in comparison.p_values)
        sentences.append(
            f"\\* {subject} is better than the row with p < 0.05, \\*\\* with p < 0.01; †, †† the row is better than "
            f"{subject}: paired t-tests over users (their metric averaged over seeds), two-sided, corrected by Holm's "
            f"method for all {n_tests} in this table."
        )
    elif comparison.others:
        sentences.append("No tests: they need ranks of single users (all items ranked, one target a user).")
    sentences += [
        f"{row.label} diverged with seed {', '.join(map(str, row.diverged))}, which its figures leave out."
        for row in comparison.rows
        if row.diverged
    ]
    sentences += [f"{label} diverged with every seed, and has no row." for label in diverged]
    return " ".join(sentences)


def cost_table(comparison: Comparison) -> str:
    """A line a row: model, valid score, seconds, parameters, how many settings were tried and which were chosen."""
    valid = f"valid {comparison.subject.configuration['valid_metric'].lower()}"
    lines = [
        {
            "": row.label,
            "model": row.model,
            valid: f"{np.mean([run.valid_score for run in row.runs.values()]):.4f}",
            "training, s": f"{np.median([run.seconds for run in row.runs.values()]):.0f}",
            "parameters": f"{next(iter(row.runs.values())).n_parameters:,}",
            "chosen": _chosen(row),
        }
        for row in comparison.rows
    ]
    table = pd.DataFrame(lines)
    return markdown(table.drop(columns="model") if (table[""] == table["model"]).all() else table)


def _chosen(row: Row) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in row.chosen.items())
    return f"{settings} (best of {len(row.points)})" if settings else "-"


def loss_table(comparison: Comparison) -> str:
    """Training and test loss of every seed at the epoch that validation chose, and at the last one."""
    lines = []
    for (label, seed), losses in comparison.losses().groupby(["model", "seed"], sort=False):
        best_epoch = next(row for row in comparison.rows if row.label == label).runs[seed].best_epoch
        shown = losses[losses["epoch"].isin([best_epoch, losses["epoch"].max()])]
        lines.append(shown.assign(**{"lowest test": losses["test"].min()}))
    table = pd.concat(lines).rename(columns={"model": ""})
    figures = table.columns[3:]
    return markdown(table.assign(**{name: table[name].map("{:.4f}".format) for name in figures}))


def group_tables(comparison: Comparison) -> dict[str, str]:
    """The widest recall of users by length of history and by warmth of the target; none where there are no ranks."""
    metric = comparison.widest_metric
    if comparison.ranks is None or metric is None:
        return {}
    of_users, first = comparison.metrics_of_users(metric), comparison.ranks[comparison.subject.label][0]
    groupings = {
        "By length of the history (figure 4)": by_history(first.history_length),
        "By warmth of the target": by_warmth(first.target_count),
    }
    tables = {}
    for heading, groups in groupings.items():
        grouped = of_users.groupby(groups, observed=True)
        means = grouped.mean().map("{:.4f}".format)
        means.insert(0, "users", grouped.size().map("{:,}".format))
        tables[heading] = markdown(means.reset_index(names=metric))
    return tables


def gains_table(comparison: Comparison, dataset: str, paper: Mapping[str, Gains], *, best_only: bool) -> str:
    """The subject's gains here and in the paper.

    Args:
        dataset: name of the data set here.
        paper: gains by data set.
        best_only: over the best other row alone (table II), else over every row that the paper has, too.
    """
    if best_only:
        pairs = [(BEST_OTHER, metric, comparison.best(comparison.others, metric)) for metric in comparison.metrics]
    else:
        pairs = [(label, metric, label) for label in comparison.others for metric in comparison.metrics]
    lines = [
        [name, metric, _gain(comparison, label, metric), *(f"{gains[name, metric]:+.2%}" for gains in paper.values())]
        for name, metric, label in pairs
        if all((name, metric) in gains for gains in paper.values())
    ]
    columns = ["gain over", "metric", dataset, *(f"{name} (paper)" for name in paper)]
    return markdown(pd.DataFrame(lines, columns=columns))


def _gain(comparison: Comparison, label: str, metric: str) -> str:
    """Of the subject over a row, in percent; positive if the subject is the better of the two."""
    other = comparison.mean(label, metric)
    return f"{sign_of(metric) * (comparison.mean(comparison.subject.label, metric) / other - 1):+.2%}" if other else "-"
