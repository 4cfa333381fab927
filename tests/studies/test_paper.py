"""The paper's gains, against those that its table II prints."""

from __future__ import annotations

import pytest

from recbole_msm4sr.evaluation.tables import BEST_OTHER
from recbole_msm4sr.studies.experiments import paper_gains

#: The column %Imp of table II.
PRINTED = {
    "Pantry": [9.76, 12.17, 11.35, 2.62, 7.72, 8.38],
    "Arts": [4.66, 7.73, 9.79, 1.14, 3.41, 5.15],
    "Office": [12.95, 13.77, 12.46, 23.46, 22.23, 20.95],
}


def test_gains_over_the_best_baseline_are_those_that_the_paper_prints() -> None:
    gains = paper_gains("II")
    for dataset, printed in PRINTED.items():
        metrics = [f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (5, 10, 20)]
        assert [100 * gains[dataset][BEST_OTHER, metric] for metric in metrics] == pytest.approx(printed, abs=0.011)


@pytest.mark.parametrize("table", ["III", "IV", "V", "VI"])
def test_every_table_has_the_rows_of_its_study(table: str) -> None:
    rows = {
        "III": {"w/o NIP", "w/o CMCL", "w/o mixup", "w/o pre-training", "end-to-end"},
        "IV": {"V", "T"},
        "V": {"w/o pre-training"},
        "VI": {"w/o pre-training", "UniSRec"},
    }
    for gains in paper_gains(table).values():
        assert rows[table] <= {label for label, _ in gains}
