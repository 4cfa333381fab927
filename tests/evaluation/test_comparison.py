"""The outcome of a comparison against figures computed independently: tests, their correction, groups, unseen ranks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from recbole_msm4sr.evaluation.comparison import Comparison, Row, Run, among_unseen
from recbole_msm4sr.evaluation.tables import group_tables, metrics_table
from recbole_msm4sr.evaluation.user_ranks import UserRanks

N_USERS = 200
METRICS = ("recall@1", "recall@10")
USERS = np.arange(N_USERS)


def comparison_of(ranks: dict[str, list[NDArray[np.int64]]]) -> Comparison:
    """Of rows with the given ranks, one array a seed, of the same users; the subject is ``subject``.

    The first half of the users has a history of 3, the rest of 7; without it all ranks are twice as good.
    """
    names = np.array([f"u{i:03}" for i in USERS])
    history, target_count = np.where(USERS < N_USERS // 2, 3, 7), np.full(N_USERS, 20)
    rows = []
    for label, of_seeds in ranks.items():
        runs = {}
        for seed, rank in enumerate(of_seeds):
            of_users = UserRanks(names, names, rank, (rank + 1) // 2, history, target_count)
            result = {metric: float(of_users.metric(metric).mean()) for metric in METRICS}
            runs[seed] = Run(
                valid_score=0.1,
                test_result=result,
                seconds=1.0,
                n_parameters=10,
                best_epoch=1,
                losses=[],
                versions={},
                run_folder="runs/x",
                ranks=of_users,
            )
        rows.append(Row(label, label, configuration={"valid_metric": "Recall@20"}, runs=runs))
    return Comparison(rows, "subject")


@pytest.fixture
def three_rows() -> Comparison:
    """The best other row is ``early`` by Recall@1 and ``late`` by Recall@10."""
    rng = np.random.default_rng(5)

    def draw(first: float, best_ten: float) -> list[NDArray[np.int64]]:
        return [np.where(luck < first, 1, np.where(luck < best_ten, 9, 30)) for luck in rng.random((2, N_USERS))]

    return comparison_of({"late": draw(0.2, 0.6), "early": draw(0.3, 0.5), "subject": draw(0.27, 0.65)})


def _of_users(row: Row, metric: str) -> NDArray[np.float64]:
    k = int(metric.partition("@")[2])
    return np.mean([run.ranks.rank <= k for run in row.runs.values() if run.ranks], axis=0)


def test_p_values_are_those_of_paired_t_tests_over_users_corrected_by_holm(three_rows: Comparison) -> None:
    raw = {
        (row.label, metric): stats.ttest_rel(_of_users(three_rows.subject, metric), _of_users(row, metric)).pvalue
        for row in three_rows.rows[:2]
        for metric in METRICS
    }
    smallest, second, third, largest = sorted(raw, key=lambda name: raw[name])
    assert three_rows.p_values[smallest] == pytest.approx(4 * raw[smallest])
    assert three_rows.p_values[second] == pytest.approx(max(4 * raw[smallest], 3 * raw[second]))
    assert three_rows.p_values[third] == pytest.approx(min(1, max(3 * raw[second], 2 * raw[third])))
    assert three_rows.p_values[largest] == pytest.approx(min(1, max(2 * raw[third], raw[largest])))


def test_the_table_has_mean_deviation_and_p_value_of_every_row_and_metric(three_rows: Comparison) -> None:
    table = three_rows.table()
    assert list(zip(table["model"], table["metric"], strict=True)) == [
        (label, metric) for label in ("late", "early", "subject") for metric in METRICS
    ]
    of_seeds = [run.test_result["recall@10"] for run in three_rows.rows[0].runs.values() if run.test_result]
    line = table.iloc[1]
    assert (line["mean"], line["sd"], line["seeds"]) == pytest.approx((np.mean(of_seeds), np.std(of_seeds, ddof=1), 2))
    assert line["p_value"] == three_rows.p_values["late", "recall@10"]


def test_the_subjects_p_value_is_against_the_best_other_row_of_each_metric(three_rows: Comparison) -> None:
    for metric, label in zip(METRICS, ("early", "late"), strict=True):
        assert three_rows.best(three_rows.others, metric) == label
        assert three_rows.p_values["subject", metric] == three_rows.p_values[label, metric]
        assert three_rows.p_values["early", metric] != three_rows.p_values["late", metric]


def test_histories_left_out_of_the_ranking_change_metrics_and_p_values(three_rows: Comparison) -> None:
    unseen = among_unseen(three_rows)
    assert unseen is not None
    for row in three_rows.rows:
        of_seeds = [((run.ranks.rank + 1) // 2 <= 10).mean() for run in row.runs.values() if run.ranks]
        assert unseen.mean(row.label, "recall@10") == pytest.approx(np.mean(of_seeds))
    same = comparison_of({"late": [USERS % 40 + 1], "subject": [USERS % 20 + 1]})
    of_same = among_unseen(same)
    assert of_same is not None
    assert of_same.mean("subject", "recall@10") == 1.0
    assert same.mean("subject", "recall@10") == 0.5
    assert of_same.p_values != same.p_values


def test_metrics_of_user_groups_are_means_over_their_users_and_seeds(three_rows: Comparison) -> None:
    lines = "\n".join(group_tables(three_rows).values()).splitlines()
    for name, users in (("history 3", USERS < N_USERS // 2), ("history 4-7", USERS >= N_USERS // 2)):
        [line] = [line for line in lines if line.startswith(f"| {name} ")]
        figures = [cell.strip() for cell in line.strip("|").split("|")][1:]
        expected = [f"{_of_users(row, 'recall@10')[users].mean():.4f}" for row in three_rows.rows]
        assert figures == ["100", *expected]


def test_a_row_that_is_better_than_the_subject_is_marked_so() -> None:
    comparison = comparison_of({"good": [USERS % 2 + 1], "subject": [USERS % 4 + 1], "bad": [USERS % 40 + 1]})
    line = next(line for line in metrics_table(comparison).splitlines() if line.startswith("| recall@1 "))
    good, subject, bad = line.split("|")[2:5]
    assert "††" in good
    assert "**0.5000**" in good
    assert "\\*\\*" in bad
    assert "†" not in subject + bad
    assert line.rstrip(" |").endswith("-50.00%")
