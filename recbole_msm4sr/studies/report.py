"""A comparison as files: ``table.md``, ``table.csv``, ``table.json`` and ``plot.png``."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from recbole_msm4sr.evaluation.groups import COLD, by_history, by_warmth
from recbole_msm4sr.files import atomic_file
from recbole_msm4sr.studies.compare import Comparison, Row
from recbole_msm4sr.studies.plot import plot_bars
from recbole_msm4sr.training.run_folder import environment, plain

COLUMNS = ("model", "metric", "mean", "sd", "seeds", "p_value")


def write_report(comparison: Comparison, out: Path, title: str) -> None:
    """Write all files of a report, each atomically."""
    with atomic_file(out / "table.md") as temporary:
        temporary.write_text(markdown(comparison, title), encoding="utf-8")
    rows = flat_rows(comparison)
    with atomic_file(out / "table.csv") as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with atomic_file(out / "table.json") as temporary:
        temporary.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    with atomic_file(out / "report.json") as temporary:
        temporary.write_text(json.dumps(plain(_context(comparison, title)), indent=2) + "\n", encoding="utf-8")
    with atomic_file(out / "plot.png") as temporary:
        plot_bars(comparison, title, temporary)


def flat_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One record a model and metric, with the keys of ``COLUMNS``; ``sd`` is null with one seed.

    ``p_value`` is that of the paired test against the subject; of the subject, against the best other row; corrected
    for the number of tests, null where there was none.
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


def markdown(comparison: Comparison, title: str) -> str:
    """The whole report as Markdown: test metrics, gain, cost, chosen settings, groups of users."""
    plan = comparison.plan
    searched = f"best of {plan.n_trials} settings on validation" if plan.grid else "settings as given"
    if plan.grid and plan.tune_once:
        searched = f"settings of {plan.subject}, best of {plan.n_trials} on validation, for all rows"
    seeds = f"{plan.n_seeds} seed{'s' if plan.n_seeds > 1 else ''}"
    users = f" users whose target has fewer than {COLD} training interactions;" if plan.cold_only else ""
    parts = [
        f"# {title}",
        f"{plan.dataset}, leave-one-out, all items ranked;{users} {searched}; test metrics, mean ± standard deviation "
        f"of {seeds}.",
        _metrics_table(comparison),
        f"Gain: {plan.subject} over the best other row. \\* p < 0.05, \\*\\* p < 0.01: paired t-test of {plan.subject} "
        "against the row over users (their metric averaged over seeds), corrected for the number of tests (Holm).",
        _cost_table(comparison),
    ]
    for heading, table in _group_tables(comparison).items():
        parts += [f"## {heading}", table]
    return "\n\n".join(parts) + "\n"


def _metrics_table(comparison: Comparison) -> str:
    header = ["", *(row.variant.label for row in comparison.rows)]
    if comparison.others:
        header.append("gain")
    body = []
    for metric in comparison.metrics:
        best = max(row.mean(metric) for row in comparison.rows)
        line = [metric]
        for row in comparison.rows:
            text = f"{row.mean(metric):.4f}"
            text = f"**{text}**" if row.mean(metric) == best else text
            sd = row.sd(metric)
            line.append(text + (f" ± {sd:.4f}" if sd is not None else "") + _stars(comparison, row, metric))
        rival = comparison.best_other(metric)
        if rival is not None:
            line.append(
                f"{comparison.subject.mean(metric) / rival.mean(metric) - 1:+.2%}" if rival.mean(metric) else "-"
            )
        body.append(line)
    return tabulate(body, header, tablefmt="pipe", disable_numparse=True)


def _stars(comparison: Comparison, row: Row, metric: str) -> str:
    p_value = comparison.p_values.get((row.variant.label, metric))
    if p_value is None or row is comparison.subject:
        return ""
    return " \\*\\*" if p_value < 0.01 else " \\*" if p_value < 0.05 else ""


def _cost_table(comparison: Comparison) -> str:
    body = [
        [
            row.variant.label,
            f"{np.median([cell.seconds for cell in row.cells]):.0f}",
            f"{row.cells[0].n_parameters:,}",
            ", ".join(f"{name} {value}" for name, value in row.chosen.items()) or "-",
        ]
        for row in comparison.rows
    ]
    return tabulate(body, ["", "training, s", "parameters", "chosen"], tablefmt="pipe", disable_numparse=True)


def _group_tables(comparison: Comparison) -> dict[str, str]:
    """Mean metrics by history length and by warmth of the target; nothing where there are no ranks."""
    first = comparison.subject.cells[0].ranks
    if first is None:
        return {}
    groupings = {"By length of the history (figure 4)": by_history(first), "By warmth of the target": by_warmth(first)}
    return {heading: _group_table(comparison, groups) for heading, groups in groupings.items()}


def _group_table(comparison: Comparison, groups: Mapping[str, NDArray[np.bool_]]) -> str:
    metric = f"recall@{max(int(name.partition('@')[2]) for name in comparison.metrics)}"
    first = comparison.subject.cells[0].ranks
    assert first is not None
    members = {name: set(first.user[mask].tolist()) for name, mask in groups.items()}
    body = []
    for name, users in members.items():
        line = [name, f"{len(users):,}"]
        for row in comparison.rows:
            values = [
                cell.ranks.metric(metric)[np.isin(cell.ranks.user, list(users))].mean()
                for cell in row.cells
                if cell.ranks is not None
            ]
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
        "data": comparison.data,
        "settings": plan.settings,
        "grid": plan.grid,
        "trials": plan.n_trials if plan.grid else 0,
        "first_seed": plan.first_seed,
        "seeds": plan.n_seeds,
        "rows": [
            {
                "label": row.variant.label,
                "model": row.variant.model,
                "settings": row.variant.settings,
                "chosen": row.chosen,
                "valid_scores": [cell.valid_score for cell in row.cells],
                "test_results": [cell.test_result for cell in row.cells],
                "seconds": [cell.seconds for cell in row.cells],
                "n_parameters": row.cells[0].n_parameters,
            }
            for row in comparison.rows
        ],
        "versions": environment(),
    }
