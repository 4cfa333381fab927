"""Pictures of comparisons, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from recbole_msm4sr.evaluation.comparison import Comparison

_SUBJECT, _OTHER, _INK = "#1b6ca8", "#b8c4ce", "#333333"
_COLOURS = ("#e0812b", _SUBJECT, "#4c956c", "#8e5ea2", "#777777")


def plot_bars(comparison: Comparison, title: str, path: Path) -> None:
    """Write a PNG: one panel a metric, one bar a row, with the standard deviation over seeds."""
    metrics, labels = comparison.metrics, comparison.labels
    n_columns = min(3, len(metrics))
    n_rows = -(-len(metrics) // n_columns)
    figure, panels = _panels(len(metrics), n_columns, (4.2, 0.9 + 0.32 * len(labels) + 1.0 / n_rows))
    colours = [_SUBJECT if label == comparison.subject.label else _OTHER for label in labels]
    for metric, axes in zip(metrics, panels, strict=True):
        table = comparison.table().query("metric == @metric").fillna({"sd": 0.0})
        axes.barh(np.arange(len(labels)), table["mean"], xerr=table["sd"], color=colours, height=0.7, ecolor=_INK)
        axes.set_yticks(np.arange(len(labels)), labels)
        axes.invert_yaxis()
        axes.locator_params(axis="x", nbins=5)
        axes.set_title(metric, fontsize=10)
    _save(figure, title, path)


def plot_sweeps(comparison: Comparison, sweeps: Mapping[str, str], metric: str, title: str, path: Path) -> None:
    """Write a PNG: one panel a setting, the metric against its values in even steps, with the deviation over seeds.

    Args:
        sweeps: settings, with the symbols to draw them by; a panel has the rows that differ from the subject in this
            setting alone, and the subject.
    """
    figure, panels = _panels(len(sweeps), len(sweeps), (3.6, 3.4))
    subject, table = comparison.subject, comparison.table().fillna({"sd": 0.0})
    found = table[table["metric"] == metric].set_index("model")
    for (key, symbol), axes in zip(sweeps.items(), panels, strict=True):
        kept = {name: subject.configuration[name] for name in sweeps if name != key}
        rows = [row for row in comparison.rows if kept.items() <= row.configuration.items()]
        rows.sort(key=lambda row: row.configuration[key])
        means, spread = (found.loc[[row.label for row in rows], name].tolist() for name in ("mean", "sd"))
        places = np.arange(len(rows))
        axes.errorbar(places, means, spread, color=_SUBJECT, ecolor=_INK, capsize=3)
        for place, mean, row in zip(places, means, rows, strict=True):
            axes.plot(place, mean, "o", color=_SUBJECT, mfc=_SUBJECT if row is subject else "w")
        axes.set_xticks(places, [f"{row.configuration[key]:g}" for row in rows])
        axes.set_xlabel(symbol)
        axes.set_title(f"{symbol}: {key}", fontsize=10)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel(metric)
    _save(figure, f"{title}; filled: {subject.label}", path)


def plot_losses(comparison: Comparison, title: str, path: Path) -> None:
    """Write a PNG: log test loss against log training loss, one curve a seed, from right to left; dots: best epochs."""
    figure, [axes] = _panels(1, 1, (6.4, 4.8))
    recorded = [row for row in comparison.rows if all(run.losses for run in row.runs.values())]
    for number, row in enumerate(recorded):
        colour, label = _COLOURS[number % len(_COLOURS)], row.label
        for run in row.runs.values():
            train, test = (np.log([losses[name] for losses in run.losses]) for name in ("train", "test"))
            axes.plot(train, test, color=colour, linewidth=1.2, marker=".", markersize=3, label=label)
            label = "_"  # one entry of the legend a row
            if run.best_epoch is not None:
                axes.plot(train[run.best_epoch - 1], test[run.best_epoch - 1], "o", color=colour, markersize=6)
    axes.set_xlabel("log training loss")
    axes.set_ylabel("log test loss")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    _save(figure, title, path)


def _panels(number: int, n_columns: int, size: tuple[float, float]) -> tuple[Figure, Sequence[Any]]:
    """A figure of that many panels, each ``size`` inches wide and high."""
    n_rows = -(-number // n_columns)
    figure = Figure(figsize=(size[0] * n_columns, size[1] * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(n_rows, n_columns, place + 1) for place in range(number)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _save(figure: Figure, title: str, path: Path) -> None:
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=150)
