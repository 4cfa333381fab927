"""What the MSM4SR paper gained, to be read beside what is gained here."""

from __future__ import annotations

from recbole_msm4sr.config.yaml_file import PROPERTIES, read_yaml

BEST_OTHER = "best other row"


def paper_gains(table: str) -> dict[str, dict[tuple[str, str], float]]:
    """Relative gains of MSM4SR in one of the paper's tables.

    Args:
        table: II, ..., VI, as in ``properties/study/paper.yaml``.

    Returns:
        Data set to ``{(row, metric): gain}``, 0.1 for 10 %; the row ``BEST_OTHER`` is the best but MSM4SR by metric.
    """
    content = read_yaml(PROPERTIES / "study" / "paper.yaml")[table]
    metrics = content.pop("metrics")
    gains = {}
    for dataset, rows in content.items():
        own = dict(zip(metrics, rows.pop("MSM4SR"), strict=True))
        others = {label: dict(zip(metrics, values, strict=True)) for label, values in rows.items()}
        others[BEST_OTHER] = {metric: max(row[metric] for row in others.values()) for metric in metrics}
        gains[dataset] = {
            (label, metric): own[metric] / value - 1 for label, row in others.items() for metric, value in row.items()
        }
    return gains
