"""The paper's tables and figures: which rows, on top of which settings, and what the paper gained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recbole_msm4sr.config.load import PROPERTIES
from recbole_msm4sr.config.yaml_file import read_yaml
from recbole_msm4sr.evaluation.tables import BEST_OTHER, Gains

SUBJECT = "MSM4SR"


@dataclass(frozen=True)
class Variant:
    """A model and what sets it apart from the other rows.

    Attributes:
        label: the row's name, ``w/o NIP``.
        model: the model's name.
        settings: all that are not the model's own defaults.
        data: fingerprint of the data that it reads.
        points: settings to choose from on validation.
    """

    label: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    points: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Study:
    """One of the paper's experiments, or a comparison of one's own.

    Attributes:
        title: what the report is headed with.
        variants: its rows.
        subject: label of the row that the others are compared with.
        tune_once: whether all rows use the subject's settings: they differ in one thing only.
        n_seeds: runs of every row, unless more or fewer are asked for.
        paper: name of the paper's table in ``properties/study/paper.yaml``, to be shown beside ours.
        sweeps: settings that the rows vary one at a time, with the symbols to draw them by.
    """

    title: str
    variants: tuple[Variant, ...]
    subject: str = SUBJECT
    tune_once: bool = False
    n_seeds: int = 3
    paper: str | None = None
    sweeps: Mapping[str, str] = field(default_factory=dict)


def studies() -> dict[str, Study]:
    """The paper's experiments by name, as in ``properties/study/experiments.yaml``."""
    return {
        name: Study(
            title=entry["title"],
            variants=tuple(
                Variant(label, row["model"], {key: value for key, value in row.items() if key != "model"})
                for label, row in entry["rows"].items()
            ),
            tune_once=entry["tune"] == "subject",
            n_seeds=entry.get("seeds", 3),
            paper=entry.get("paper"),
            sweeps=entry.get("sweeps", {}),
        )
        for name, entry in read_yaml(PROPERTIES / "study" / "experiments.yaml").items()
    }


def paper_gains(table: str) -> dict[str, Gains]:
    """Relative gains of MSM4SR in one of the paper's tables.

    Args:
        table: II, ..., VI, as in ``properties/study/paper.yaml``.

    Returns:
        Data set to ``{(row, metric): gain}``, 0.1 for 10 %; the row ``BEST_OTHER`` is the best but MSM4SR by metric.
    """
    content = read_yaml(PROPERTIES / "study" / "paper.yaml")[table]
    metrics = content.pop("metrics")
    gains: dict[str, Gains] = {}
    for dataset, rows in content.items():
        own = dict(zip(metrics, rows.pop(SUBJECT), strict=True))
        others = {label: dict(zip(metrics, values, strict=True)) for label, values in rows.items()}
        others[BEST_OTHER] = {metric: max(row[metric] for row in others.values()) for metric in metrics}
        gains[dataset] = {
            (label, metric): own[metric] / value - 1 for label, row in others.items() for metric, value in row.items()
        }
    return gains
