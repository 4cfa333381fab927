"""A comparison as files: tables, ``report.json`` with all that they were made of, and a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from recbole_msm4sr.core.files import atomic_file
from recbole_msm4sr.evaluation.groups import by_history, by_warmth
from recbole_msm4sr.evaluation.report import describe_evaluation
from recbole_msm4sr.studies.catalogue import Study
from recbole_msm4sr.studies.cells import Cell
from recbole_msm4sr.studies.comparison import Comparison, Row, among_unseen, best, sign_of
from recbole_msm4sr.studies.paper import BEST_OTHER, paper_gains
from recbole_msm4sr.studies.plot import plot_bars, plot_losses, plot_sweeps
from recbole_msm4sr.training.run_folder import environment, write_json

COLUMNS = ("model", "metric", "mean", "sd", "seeds", "p_value")
LOSS_COLUMNS = ("model", "seed", "epoch", "train", "valid", "test")


def write_report(comparison: Comparison, out: Path, study: Study) -> None:
    """Write all files of a report, each atomically."""
    with atomic_file(out / "table.md") as temporary:
        temporary.write_text(markdown(comparison, study), encoding="utf-8")
    rows = flat_rows(comparison)
    _write_csv(out / "table.csv", COLUMNS, rows)
    write_json(out / "table.json", rows)
    write_json(out / "report.json", _context(comparison, study.title))
    losses = loss_rows(comparison)
    if losses:
        _write_csv(out / "losses.csv", LOSS_COLUMNS, losses)
    with atomic_file(out / "plot.png") as temporary:
        if losses:
            plot_losses(comparison, study.title, temporary)
        elif study.sweeps and comparison.widest_metric:
            plot_sweeps(comparison, study.sweeps, comparison.widest_metric, study.title, temporary)
        else:
            plot_bars(comparison, study.title, temporary)


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def flat_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One record a model and metric, with the keys of ``COLUMNS``; ``sd`` is null with one seed.

    ``p_value`` is that of the paired, two-sided test against the subject; of the subject, against the best other row,
    whichever of them is better; corrected for the number of tests, null where there was none.
    """
    return [
        {
            "model": row.variant.label,
            "metric": metric,
            "mean": row.mean(metric),
            "sd": row.sd(metric),
            "seeds": len(row.cells),
            "p_value": comparison.p_values.get((row.variant.label, metric)),
        }
        for row in comparison.rows
        for metric in comparison.metrics
    ]


def loss_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One record a model, seed and epoch, with the keys of ``LOSS_COLUMNS``; none if losses were not recorded."""
    return [
        {"model": row.variant.label, "seed": seed, "epoch": epoch, **losses}
        for row in comparison.rows
        for seed, cell in row.cells.items()
        for epoch, losses in enumerate(cell.losses, start=1)
    ]


def markdown(comparison: Comparison, study: Study) -> str:
    """The whole report as Markdown: test metrics, gain, cost, chosen settings, groups of users, losses, the paper."""
    plan = comparison.plan
    n_tried = comparison.subject.n_tried
    searched = f"best of {n_tried} settings on validation" if n_tried else "settings as given"
    if n_tried and plan.tune_once:
        searched = f"settings of {plan.subject}, best of {n_tried} on validation, for all rows"
    seeds = f"mean ± standard deviation of {plan.n_seeds} seeds" if plan.n_seeds > 1 else "a single seed"
    parts = [
        f"# {study.title}",
        f"{plan.dataset}, {describe_evaluation(comparison.subject.configuration)}; {searched}; test metrics, {seeds}.",
        _metrics_table(comparison),
        *_notes(comparison),
        _cost_table(comparison),
    ]
    tables = _group_tables(comparison)
    unseen = among_unseen(comparison)
    if unseen is not None:
        tables["With the items of a user's history left out of the ranking"] = _metrics_table(unseen)
    if loss_rows(comparison):
        tables["Losses at the epoch that validation chose and at the last"] = _loss_table(comparison)
    if study.paper:
        tables[f"Gains of {plan.subject} here and in the paper (table {study.paper})"] = _paper_table(
            comparison, study.paper
        )
    for heading, table in tables.items():
        parts += [f"## {heading}", table]
    return "\n\n".join(parts) + "\n"


def _notes(comparison: Comparison) -> list[str]:
    """What the marks in the table of metrics mean, and what is missing in it."""
    subject, notes = comparison.plan.subject, []
    if comparison.others:
        notes.append(f"Gain: {subject} over the best other row.")
    if comparison.p_values:
        n_tests = sum(label != subject for label, _ in comparison.p_values)
        notes.append(
            f"\\* {subject} is better than the row with p < 0.05, \\*\\* with p < 0.01; †, †† the row is better than "
            f"{subject}: paired t-tests over users (their metric averaged over seeds), two-sided, corrected by Holm's "
            f"method for all {n_tests} in this table."
        )
    elif comparison.others:
        notes.append("No tests: they need ranks of single users (all items ranked, one target a user).")
    notes += [
        f"{row.variant.label} diverged with seed {', '.join(map(str, row.diverged))}, which its figures leave out."
        for row in comparison.rows
        if row.diverged
    ]
    notes += [f"{label} diverged with every seed, and has no row." for label in comparison.diverged]
    return [" ".join(notes)] if notes else []


def _metrics_table(comparison: Comparison) -> str:
    header = ["", *(row.variant.label for row in comparison.rows)]
    if comparison.others:
        header.append("gain")
    body = []
    for metric in comparison.metrics:
        best_mean = best(comparison.rows, metric).mean(metric)
        line = [metric]
        for row in comparison.rows:
            text = f"{row.mean(metric):.4f}"
            text = f"**{text}**" if row.mean(metric) == best_mean else text
            sd = row.sd(metric)
            line.append(text + (f" ± {sd:.4f}" if sd is not None else "") + _stars(comparison, row, metric))
        if comparison.others:
            line.append(_gain(comparison, comparison.best_other(metric), metric))
        body.append(line)
    return tabulate(body, header, tablefmt="pipe", disable_numparse=True)


def _stars(comparison: Comparison, row: Row, metric: str) -> str:
    p_value = comparison.p_values.get((row.variant.label, metric))
    if p_value is None or row is comparison.subject or p_value >= 0.05:
        return ""
    mark = "\\*" if best([comparison.subject, row], metric) is comparison.subject else "†"
    return f" {2 * mark if p_value < 0.01 else mark}"


def _cost_table(comparison: Comparison) -> str:
    body = [
        [
            row.variant.label,
            f"{np.mean([cell.valid_score for cell in row.cells.values()]):.4f}",
            f"{np.median([cell.seconds for cell in row.cells.values()]):.0f}",
            f"{_first(row).n_parameters:,}",
            f"{', '.join(f'{name} {value}' for name, value in row.chosen.items())} (best of {row.n_tried})"
            if row.chosen
            else "-",
        ]
        for row in comparison.rows
    ]
    valid = f"valid {comparison.subject.configuration['valid_metric'].lower()}"
    return tabulate(body, ["", valid, "training, s", "parameters", "chosen"], tablefmt="pipe", disable_numparse=True)


def _first(row: Row) -> Cell:
    return next(iter(row.cells.values()))


def _loss_table(comparison: Comparison) -> str:
    """Training and test loss of every seed at the epoch that validation chose, and at the last one."""
    body = []
    for row in comparison.rows:
        for seed, cell in row.cells.items():
            if not cell.losses:  # of a model that does not record them
                continue
            lowest = min(losses["test"] for losses in cell.losses)
            last = len(cell.losses)
            for epoch in sorted({cell.best_epoch or last, last}):
                losses = cell.losses[epoch - 1]
                figures = [f"{value:.4f}" for value in (losses["train"], losses["valid"], losses["test"], lowest)]
                body.append([row.variant.label, seed, epoch, *figures])
    header = ["", "seed", "epoch", "train", "valid", "test", "lowest test"]
    return tabulate(body, header, tablefmt="pipe", disable_numparse=True)


def _paper_table(comparison: Comparison, table: str) -> str:
    """Relative gains here and in the paper, over the rows that both have, or over the best other row (table II)."""
    gains = paper_gains(table)
    header = ["gain over", "metric", comparison.plan.dataset, *(f"{name} (paper)" for name in gains)]
    pairs: list[tuple[str, str, Row | None]]
    if table == "II":
        pairs = [(BEST_OTHER, metric, comparison.best_other(metric)) for metric in comparison.metrics]
    else:
        pairs = [(row.variant.label, metric, row) for row in comparison.others for metric in comparison.metrics]
    body = [
        [label, metric, _gain(comparison, row, metric), *(f"{known[label, metric]:+.2%}" for known in gains.values())]
        for label, metric, row in pairs
        if all((label, metric) in known for known in gains.values())
    ]
    return tabulate(body, header, tablefmt="pipe", disable_numparse=True)


def _gain(comparison: Comparison, row: Row | None, metric: str) -> str:
    """Of the subject over a row, in percent; positive if the subject is the better of the two."""
    if row is None or not row.mean(metric):
        return "-"
    return f"{sign_of(metric) * (comparison.subject.mean(metric) / row.mean(metric) - 1):+.2%}"


def _group_tables(comparison: Comparison) -> dict[str, str]:
    """Mean metrics by history length and by warmth of the target; nothing where there are no ranks."""
    first = _first(comparison.subject).ranks
    if first is None or comparison.widest_metric is None:
        return {}
    groupings = {"By length of the history (figure 4)": by_history(first), "By warmth of the target": by_warmth(first)}
    return {
        heading: _group_table(comparison, {name: first.user[mask] for name, mask in groups.items()})
        for heading, groups in groupings.items()
    }


def _group_table(comparison: Comparison, groups: Mapping[str, NDArray[np.str_]]) -> str:
    """The widest recall of groups of users."""
    metric = str(comparison.widest_metric)
    body = []
    for name, users in groups.items():
        line = [name, f"{len(users):,}"]
        for row in comparison.rows:
            values = [ranks.metric(metric)[np.isin(ranks.user, users)].mean() for ranks in row.ranks or ()]
            line.append(f"{np.mean(values):.4f}" if values else "-")
        body.append(line)
    header = [metric, "users", *(row.variant.label for row in comparison.rows)]
    return tabulate(body, header, tablefmt="pipe", disable_numparse=True)


def _context(comparison: Comparison, title: str) -> dict[str, Any]:
    """What the figures were made of: plan, chosen settings, every seed's metrics, versions, data."""
    plan = comparison.plan
    return {
        "title": title,
        "dataset": plan.dataset,
        "data": {key: value for row in comparison.rows for key, value in row.variant.data.items()},
        "settings": plan.settings,
        "grid": plan.grid,
        "trials": plan.n_trials if plan.grid else 0,
        "diverged": list(comparison.diverged),
        "first_seed": plan.first_seed,
        "seeds": plan.n_seeds,
        "rows": [
            {
                "label": row.variant.label,
                "model": row.variant.model,
                "settings": row.variant.settings,
                "chosen": row.chosen,
                "n_tried": row.n_tried,
                "configuration": row.configuration,
                "data": row.variant.data,
                "seeds": list(row.cells),
                "diverged": row.diverged,
                "valid_scores": [cell.valid_score for cell in row.cells.values()],
                "test_results": [cell.test_result for cell in row.cells.values()],
                "seconds": [cell.seconds for cell in row.cells.values()],
                "best_epochs": [cell.best_epoch for cell in row.cells.values()],
                "versions": [cell.versions for cell in row.cells.values()],
                "run_folders": [cell.run_folder for cell in row.cells.values()],
                "n_parameters": _first(row).n_parameters,
            }
            for row in comparison.rows
        ],
        "versions": environment(),
    }
