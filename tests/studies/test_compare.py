"""``msm4sr compare``: what it leaves, that nothing is done twice, and that its statistics are right."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recbole_msm4sr.cli import main
from recbole_msm4sr.studies import cells

Tiny = tuple[Path, str]


def _argv(tiny: Tiny, *more: str) -> list[str]:
    data_path, name = tiny
    common = ["--epochs=2", "--use_gpu=false", "--topk=[5,10]", "--valid_metric=Recall@10", f"--data_path={data_path}"]
    return ["compare", "--models=SASRecM,GRU4Rec", f"--dataset={name}", "--seeds=2", "--out=out", *common, *more]


@pytest.fixture
def grid(tmp_path: Path) -> str:
    (tmp_path / "grid.yaml").write_text("learning_rate: [0.001, 0.01]\ntrain_batch_size: [64]\n")
    return f"--grid={tmp_path / 'grid.yaml'}"


def test_report_has_every_model_metric_and_seed(
    tiny_dataset: Tiny, grid: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_argv(tiny_dataset, grid, "--trials=2")) == 0
    assert "| recall@5" in capsys.readouterr().out
    rows = json.loads(Path("out/table.json").read_text())
    assert {(row["model"], row["metric"]) for row in rows} == {
        (model, f"{metric}@{k}") for model in ("SASRecM", "GRU4Rec") for metric in ("recall", "ndcg") for k in (5, 10)
    }
    report = json.loads(Path("out/report.json").read_text())
    for row in rows:
        [source] = [entry for entry in report["rows"] if entry["label"] == row["model"]]
        values = [result[row["metric"]] for result in source["test_results"]]
        assert row["seeds"] == len(values) == 2
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["sd"] == pytest.approx(np.std(values, ddof=1))
        assert 0 <= row["p_value"] <= 1
        assert set(source["chosen"]) == {"learning_rate", "train_batch_size"}
    with open("out/table.csv", newline="") as file:
        assert [(row["model"], row["metric"]) for row in csv.DictReader(file)] == [
            (row["model"], row["metric"]) for row in rows
        ]
    with Image.open("out/plot.png") as picture:
        assert picture.width > 500
        assert np.asarray(picture.convert("L")).std() > 5  # something is drawn
    assert "## By warmth of the target" in Path("out/table.md").read_text()
    assert report["data"]["interactions"]
    assert report["versions"]["torch"]


def test_nothing_is_run_twice_and_an_interrupted_comparison_goes_on(
    tiny_dataset: Tiny, grid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[str, bool]] = []
    original = cells.run

    def counting(model: str, *args: object, test: bool, **kwargs: object) -> object:
        if len(runs) == interrupt_at:
            raise KeyboardInterrupt
        runs.append((model, test))
        return original(model, *args, test=test, **kwargs)

    monkeypatch.setattr(cells, "run", counting)
    interrupt_at = 3
    assert main(_argv(tiny_dataset, grid, "--trials=2")) == 130
    interrupt_at = -1
    assert main(_argv(tiny_dataset, grid, "--trials=2")) == 0
    assert runs == [(model, test) for model in ("SASRecM", "GRU4Rec") for test in (False, False, True, True)]
    first = Path("out/table.json").read_bytes()
    assert main(_argv(tiny_dataset, grid, "--trials=2")) == 0
    assert len(runs) == 8
    assert Path("out/table.json").read_bytes() == first
    argv = ["--seeds=3" if word == "--seeds=2" else word for word in _argv(tiny_dataset, grid, "--trials=2")]
    assert main(argv) == 0
    assert runs[8:] == [("SASRecM", True), ("GRU4Rec", True)]


def test_searches_do_not_look_at_the_test_part(tiny_dataset: Tiny, grid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(_argv(tiny_dataset, grid, "--trials=2")) == 0
    contents = [json.loads(path.read_text()) for path in Path("out/cells").glob("*/cell.json")]
    assert sorted(content["test_result"] is None for content in contents) == [False] * 4 + [True] * 4


def test_other_data_makes_other_cells(tiny_dataset: Tiny) -> None:
    data_path, name = tiny_dataset
    assert main(_argv(tiny_dataset, "--trials=0")) == 0
    inter = data_path / name / f"{name}.inter"
    inter.write_text(inter.read_text() + "u0\ti1\t99999\n")
    assert main(_argv(tiny_dataset, "--trials=0")) == 0
    assert len(list(Path("out/cells").glob("*/cell.json"))) == 8


def test_settings_of_one_row(tiny_dataset: Tiny) -> None:
    assert main(_argv(tiny_dataset, "--trials=0", "--SASRecM.n_experts=2")) == 0
    rows = json.loads(Path("out/report.json").read_text())["rows"]
    assert [row["settings"].get("n_experts") for row in rows] == [2, None]


def test_a_common_setting_goes_to_the_rows_that_read_it(tiny_dataset: Tiny) -> None:
    assert main(_argv(tiny_dataset, "--trials=0", "--n_experts=2", "--num_layers=2")) == 0
    rows = json.loads(Path("out/report.json").read_text())["rows"]
    own = [{key: row["settings"].get(key) for key in ("n_experts", "num_layers")} for row in rows]
    assert own == [{"n_experts": 2, "num_layers": None}, {"n_experts": None, "num_layers": 2}]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--SASRec.epochs=1"], "there is no row 'SASRec'"),
        (["--epohcs=1"], "epohcs"),
        (["--n_experts"], "cannot read the argument '--n_experts'"),
        (["--seed=1"], "give --seeds"),
        (["--trials=1", "--grid=nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_mistakes_are_found_before_anything_runs(
    tiny_dataset: Tiny, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_argv(tiny_dataset, *more)) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()
