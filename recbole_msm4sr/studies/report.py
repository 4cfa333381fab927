"""A study's report as files: tables, ``report.json`` with all that they were made of, and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_msm4sr.core.done import write_json
from recbole_msm4sr.core.files import atomic_file, atomic_text
from recbole_msm4sr.evaluation import tables
from recbole_msm4sr.evaluation.comparison import Comparison, among_unseen
from recbole_msm4sr.evaluation.plots import plot_bars, plot_losses, plot_sweeps
from recbole_msm4sr.evaluation.run_table import describe_evaluation
from recbole_msm4sr.studies.experiments import Study, paper_gains
from recbole_msm4sr.training.run_folder import environment, plain


def write_report(comparison: Comparison, diverged: Sequence[str], study: Study, out: Path) -> str:
    """Write all files of a report, each atomically; returns the text of ``table.md``."""
    text = document(comparison, diverged, study)
    table, losses = comparison.table(), comparison.losses()
    lines = table.astype(object).where(table.notna(), None).to_dict("records")
    texts = {
        "table.md": text,
        "table.csv": table.to_csv(index=False),
        "table.json": json.dumps(lines, indent=2) + "\n",
    }
    if len(losses):
        texts["losses.csv"] = losses.to_csv(index=False)
    for name, content in texts.items():
        with atomic_text(out / name) as file:
            file.write(content)
    write_json(out / "report.json", plain(_context(comparison, diverged, study)))
    with atomic_file(out / "plot.png") as temporary:
        if len(losses):
            plot_losses(comparison, study.title, temporary)
        elif study.sweeps and comparison.widest_metric:
            plot_sweeps(comparison, study.sweeps, comparison.widest_metric, study.title, temporary)
        else:
            plot_bars(comparison, study.title, temporary)
    return text


def document(comparison: Comparison, diverged: Sequence[str], study: Study) -> str:
    """The whole report as Markdown: test metrics, gain, cost, chosen settings, groups of users, losses, the paper."""
    subject, counts = comparison.subject, {row.label: len(row.points) for row in comparison.rows}
    n_tried = counts[subject.label]
    searched = f"best of {n_tried} settings on validation" if n_tried else "settings as given"
    if n_tried and study.tune_once:
        searched = f"settings of {subject.label}, best of {n_tried} on validation, for all rows"
    elif len(set(counts.values())) > 1:
        searched = f"best on validation of {', '.join(f'{n} settings ({label})' for label, n in counts.items())}"
    seeds = f"mean ± standard deviation of {study.n_seeds} seeds" if study.n_seeds > 1 else "a single seed"
    parts = [
        f"# {study.title}",
        f"{study.dataset}, {describe_evaluation(subject.configuration)}; {searched}; test metrics, {seeds}.",
        tables.metrics_table(comparison),
        tables.notes(comparison, diverged),
        tables.cost_table(comparison),
    ]
    sections = tables.group_tables(comparison)
    unseen = among_unseen(comparison)
    if unseen is not None:
        sections["With the items of a user's history left out of the ranking"] = tables.metrics_table(unseen)
    if len(comparison.losses()):
        sections["Losses at the epoch that validation chose and at the last"] = tables.loss_table(comparison)
    if study.paper and comparison.others:
        heading = f"Gains of {subject.label} here and in the paper (table {study.paper})"
        gains = paper_gains(study.paper)
        sections[heading] = tables.gains_table(comparison, study.dataset, gains, best_only=study.paper == "II")
    for heading, table in sections.items():
        parts += [f"## {heading}", table]
    return "\n\n".join(filter(None, parts)) + "\n"


def _context(comparison: Comparison, diverged: Sequence[str], study: Study) -> dict[str, Any]:
    """What the figures were made of: plan, chosen settings, every seed's metrics, versions, data."""
    return {
        "title": study.title,
        "dataset": study.dataset,
        "data": {key: value for row in comparison.rows for key, value in row.data.items()},
        "settings": study.settings,
        "grid": {**study.grids.get("", {}), **{name: grid for name, grid in study.grids.items() if name}},
        "trials": study.n_trials if study.grids else 0,
        "diverged": diverged,
        "first_seed": study.first_seed,
        "seeds": study.n_seeds,
        "rows": [
            {
                **{name: value for name, value in vars(row).items() if name not in ("runs", "points")},
                "n_tried": len(row.points),
                "seeds": list(row.runs),
                "valid_scores": [run.valid_score for run in row.runs.values()],
                "test_results": [run.test_result for run in row.runs.values()],
                "seconds": [run.seconds for run in row.runs.values()],
                "best_epochs": [run.best_epoch for run in row.runs.values()],
                "versions": [run.versions for run in row.runs.values()],
                "run_folders": [run.run_folder for run in row.runs.values()],
                "n_parameters": next(iter(row.runs.values())).n_parameters,
            }
            for row in comparison.rows
        ],
        "versions": environment(),
    }
