"""A study: what is compared, and how. The paper's are in ``properties/study/experiments.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recbole_msm4sr.config.load import PROPERTIES
from recbole_msm4sr.config.yaml_file import read_yaml
from recbole_msm4sr.evaluation.comparison import Row
from recbole_msm4sr.evaluation.tables import BEST_OTHER, Gains
from recbole_msm4sr.studies.grid import Grid

SUBJECT = "MSM4SR"


@dataclass(frozen=True)
class Study:
    """One of the paper's experiments, or a comparison of one's own, on a data set.

    Attributes:
        title: what the report is headed with.
        rows: what is compared.
        subject: label of the row that the others are compared with.
        tune_once: whether all rows use the subject's settings: they differ in one thing only.
        n_seeds: runs of every row with its best settings.
        paper: name of the paper's table in ``properties/study/paper.yaml``, to be shown beside ours.
        sweeps: settings that the rows vary one at a time, with the symbols to draw them by.
        dataset: the data set's name.
        settings: of every row whose model reads them.
        grids: by section (``grid.read_grid``), searched for every row as far as its model reads them; empty: no search.
        n_trials: points of its grid tried for every row.
        first_seed: of the search and the first run.
    """

    title: str
    rows: Sequence[Row]
    subject: str = SUBJECT
    tune_once: bool = False
    n_seeds: int = 3
    paper: str | None = None
    sweeps: Mapping[str, str] = field(default_factory=dict)
    dataset: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    grids: Mapping[str, Grid] = field(default_factory=dict)
    n_trials: int = 9
    first_seed: int = 2020


def studies() -> dict[str, Study]:
    """The paper's experiments by name, as in ``properties/study/experiments.yaml``."""
    found = {}
    for name, entry in read_yaml(PROPERTIES / "study" / "experiments.yaml").items():
        rows = [Row(label, settings.pop("model"), settings) for label, settings in entry.pop("rows").items()]
        found[name] = Study(rows=rows, tune_once=entry.pop("tune") == "subject", **entry)
    return found


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
