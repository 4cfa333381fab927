"""The table at the end of a run: runs of the same users, targets and items, and why others are left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recbole_msm4sr import run
from recbole_msm4sr.evaluation.run_table import run_table

EVALUATION = {"eval_args": {"split": {"LS": "valid_and_test"}, "mode": "full"}, "eval_target_below": None}
METRICS = {
    "model": "SASRecM",
    "dataset": "tiny",
    "seed": 2020,
    "data": {"interactions": "abc"},
    "size": {"users": 40, "items": 30, "interactions": 280},
    "evaluation": EVALUATION,
    "test_result": {"recall@5": 0.25},
    "stages": [{"best_epoch": 3, "epochs": 5, "seconds_per_epoch": 1.5}],
}
HASHES = {"interactions": "abc", "users_and_targets": "u", "items": "i"}


def table_beside(runs: dict[str, Any], **own: Any) -> str:
    """The table of a run beside earlier ones of GRU4Rec; their ``metrics.json`` by time, a string as it is."""
    for time, content in runs.items():
        folder = Path("runs/tiny/GRU4Rec") / time
        folder.mkdir(parents=True)
        text = content if isinstance(content, str) else json.dumps({**METRICS, "model": "GRU4Rec", **content})
        (folder / "metrics.json").write_text(text)
    return run_table({**METRICS, **own}, Path("runs"))


def test_the_latest_comparable_run_of_another_model_is_shown() -> None:
    later = {"test_result": {"recall@5": 0.125}}
    other = {"size": {"users": 32, "items": 15, "interactions": 136}}
    lines = table_beside({"1": {}, "2": later, "3": other}).splitlines()
    assert [line.split()[:3] for line in lines[-2:]] == [["GRU4Rec", "2020", "0.1250"], ["SASRecM", "2020", "0.2500"]]
    assert not any(line.startswith("left out") for line in lines)


@pytest.mark.parametrize(
    ("other", "own", "reason"),
    [
        ({"size": {"users": 32, "items": 15, "interactions": 136}}, {}, "items: 32 users, 15 items, 136 interactions"),
        ({"size": {}}, {}, "other users, targets or items: not recorded"),
        ({"data": {"interactions": "def"}}, {}, "other users, targets or items: 40 users"),
        ({"data": {**HASHES, "items": "j"}}, {"data": HASHES}, "other users, targets or items"),
        ({"data": {**HASHES, "users_and_targets": "v"}}, {"data": HASHES}, "other users, targets or items"),
        ({"evaluation": {**EVALUATION, "eval_target_below": 10}}, {}, "other eval_target_below"),
        ({"test_result": {"recall@10": 0.5}}, {}, "other metrics"),
    ],
)
def test_runs_that_do_not_belong_into_the_table_are_left_out_with_the_reason(
    other: dict[str, Any], own: dict[str, Any], reason: str
) -> None:
    lines = table_beside({"1": other}, **own).splitlines()
    [line] = [line for line in lines if line.startswith("left out: ")]
    assert f"GRU4Rec ({reason}" in line or f"{reason})" in line
    assert not any(line.startswith("GRU4Rec") for line in lines)


def test_the_same_users_targets_and_items_from_another_file_are_comparable() -> None:
    table = table_beside({"1": {"data": {**HASHES, "interactions": "sorted otherwise"}}}, data=HASHES)
    assert "left out" not in table
    assert "\nGRU4Rec" in table


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", '{"model": 1}', "[" * 100000, "\x00"),
        json.dumps(METRICS),  # of another model than its folder
        json.dumps({**METRICS, "stages": []}),
        json.dumps({**METRICS, "test_result": {"recall@5": "high"}}),
        json.dumps({**METRICS, "evaluation": None}),
    ],
)
def test_a_damaged_record_is_left_out(content: str) -> None:
    table = table_beside({"1": content})
    assert "left out: GRU4Rec (runs/tiny/GRU4Rec/1/metrics.json is damaged)" in table
    assert table_beside({"2": {}}).count("GRU4Rec") == 1  # a later one is shown, and the damaged one forgotten


def test_runs_of_fewer_items_are_not_in_the_table(
    tiny_dataset: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """RecBole drops interactions with items that the .item file lacks, for models that read it."""
    data_path, name = tiny_dataset
    brands = "".join(f"i{item}\tb{item % 3}\n" for item in range(20))
    (data_path / name / f"{name}.item").write_text("item_id:token\tbrand:token\n" + brands)
    common = {"data_path": str(data_path), "epochs": 1, "use_gpu": False}
    run("SASRecM", name, config_dict=common)
    run("DIFSR", name, config_dict={**common, "selected_features": ["brand"]})
    table = capsys.readouterr().out.rpartition("test on tiny")[2]
    assert "left out: SASRecM (other users, targets or items: 40 users, 30 items" in table
    assert [line.split()[0] for line in table.splitlines()[-2:-1]] == ["DIFSR"]
