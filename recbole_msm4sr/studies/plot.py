"""Pictures of comparisons, drawn without a display."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from recbole_msm4sr.studies.compare import Comparison


def plot_bars(comparison: Comparison, title: str, path: Path) -> None:
    """Write a PNG: one panel a metric, one bar a row, with the standard deviation over seeds."""
    metrics = comparison.metrics
    n_columns = min(3, len(metrics))
    n_rows = -(-len(metrics) // n_columns)
    labels = [row.variant.label for row in comparison.rows]
    figure = Figure(figsize=(4.2 * n_columns, 1.0 + (0.9 + 0.32 * len(labels)) * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    for number, metric in enumerate(metrics, start=1):
        axes = figure.add_subplot(n_rows, n_columns, number)
        means = [row.mean(metric) for row in comparison.rows]
        spread = [row.sd(metric) or 0.0 for row in comparison.rows]
        colours = ["#1b6ca8" if row is comparison.subject else "#b8c4ce" for row in comparison.rows]
        axes.barh(np.arange(len(labels)), means, xerr=spread, color=colours, height=0.7, ecolor="#333333")
        axes.set_yticks(np.arange(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_title(metric, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=150)
