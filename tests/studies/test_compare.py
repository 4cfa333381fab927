"""``msm4sr compare``: what it leaves, that nothing is done twice, and that its statistics are right."""

from __future__ import annotations

import csv
import io
import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_comparison import Tiny, argv

from recbole_msm4sr.cli import main
from recbole_msm4sr.config import load as config
from recbole_msm4sr.core.errors import DivergedError
from recbole_msm4sr.core.files import locked
from recbole_msm4sr.evaluation.comparison import Row
from recbole_msm4sr.studies import runner
from recbole_msm4sr.training.recipe import RANKS


def _argv(tiny: Tiny, *more: str) -> list[str]:
    return argv(tiny, "--epochs=2", "--seeds=2", *more)


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
    table = Path("out/table.md").read_text()
    assert "## By warmth of the target" in table
    assert "best of 2 settings on validation" in table
    assert table.count("(best of 2)") == 2
    assert "history left out" in table
    contents = [json.loads(path.read_text()) for path in Path("out/cells").glob("*/cell.json")]
    assert sorted(content["test_result"] is None for content in contents) == [False] * 4 + [True] * 4
    assert report["data"]["interactions"]
    assert report["versions"]["torch"]


def test_nothing_is_run_twice_and_an_interrupted_comparison_goes_on(
    tiny_dataset: Tiny, grid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[str, bool]] = []
    original = runner.run

    def counting(model: str, *args: object, test: bool, **kwargs: object) -> object:
        if len(runs) == interrupt_at:
            raise KeyboardInterrupt
        runs.append((model, test))
        return original(model, *args, test=test, **kwargs)

    monkeypatch.setattr(runner, "run", counting)
    interrupt_at = 3
    assert main(_argv(tiny_dataset, grid, "--trials=2")) == 130
    interrupt_at = -1
    assert main(_argv(tiny_dataset, grid, "--trials=2")) == 0
    assert runs == [(model, test) for test in (False, True) for model in ("SASRecM", "SASRecM", "GRU4Rec", "GRU4Rec")]
    first = Path("out/table.json").read_bytes()
    assert main(_argv(tiny_dataset, grid, "--trials=2")) == 0
    assert len(runs) == 8
    assert Path("out/table.json").read_bytes() == first
    assert main(_argv(tiny_dataset, grid, "--trials=2", "--seeds=3")) == 0
    assert runs[8:] == [("SASRecM", True), ("GRU4Rec", True)]


def test_a_row_that_another_process_is_at_comes_last(
    tiny_dataset: Tiny, grid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(_argv(tiny_dataset, grid, "--trials=2", "--epochs=1")) == 0
    before = Path("out/table.json").read_bytes()
    [trial, _] = [path for path in Path("out/cells").glob("SASRecM-*") if not (path / RANKS).is_file()]
    (trial / "cell.json").unlink()
    for path in Path("out/cells").glob("GRU4Rec-*/cell.json"):
        path.unlink()
    runs: list[str] = []
    original = runner.run
    with ExitStack() as other_process:
        other_process.enter_context(locked(trial / "cell.json.lock"))

        def recording(model: str, *args: object, **kwargs: object) -> object:
            result = original(model, *args, **kwargs)  # type: ignore[arg-type]
            runs.append(model)
            if runs == ["GRU4Rec"] * 2:
                other_process.close()
            return result

        monkeypatch.setattr(runner, "run", recording)
        assert main(_argv(tiny_dataset, grid, "--trials=2", "--epochs=1")) == 0
    assert runs == [*["GRU4Rec"] * 2, "SASRecM", *["GRU4Rec"] * 2]
    assert Path("out/table.json").read_bytes() == before


def test_an_interrupted_search_tries_the_same_points_as_one_that_was_not(
    tiny_dataset: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("grid.yaml").write_text("learning_rate: [0.0001, 0.001, 0.01]\nweight_decay: [0.0, 0.001, 0.01]\n")
    common = ["--grid=grid.yaml", "--trials=3", "--seeds=1", "--epochs=1"]
    assert main(_argv(tiny_dataset, *common, "--out=straight")) == 0
    original = runner.run
    n_runs = 0

    def second_fails(*args: object, **kwargs: object) -> object:
        nonlocal n_runs
        n_runs += 1
        if n_runs == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(runner, "run", second_fails)
        assert main(_argv(tiny_dataset, *common, "--out=interrupted")) == 130
    assert main(_argv(tiny_dataset, *common, "--out=interrupted")) == 0
    assert Path("interrupted/table.json").read_bytes() == Path("straight/table.json").read_bytes()
    names = [{path.name for path in Path(out, "cells").iterdir()} for out in ("straight", "interrupted")]
    assert names[0] == names[1]


def test_other_data_makes_other_cells(tiny_dataset: Tiny) -> None:
    data_path, name = tiny_dataset
    assert main(_argv(tiny_dataset, "--trials=0")) == 0
    inter = data_path / name / f"{name}.inter"
    inter.write_text(inter.read_text() + "u0\ti1\t99999\n")
    assert main(_argv(tiny_dataset, "--trials=0")) == 0
    assert len(list(Path("out/cells").glob("*/cell.json"))) == 8


def test_other_defaults_make_other_cells(tiny_dataset: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default that a properties file changes is a setting like any other."""
    properties = shutil.copytree(config.PROPERTIES, tmp_path / "properties")
    monkeypatch.setattr(config, "PROPERTIES", properties)
    (properties / "dataset" / "tiny.yaml").write_text("n_experts: 2\n")
    assert main(_argv(tiny_dataset, "--trials=0", "--seeds=1", "--models=SASRecM")) == 0
    (properties / "dataset" / "tiny.yaml").write_text("n_experts: 3\n")
    assert main(_argv(tiny_dataset, "--trials=0", "--seeds=1", "--models=SASRecM")) == 0
    [row] = json.loads(Path("out/report.json").read_text())["rows"]
    assert row["configuration"]["n_experts"] == 3
    assert (
        row["n_parameters"]
        == json.loads((Path(row["run_folders"][0]) / "metrics.json").read_text())["stages"][-1]["n_parameters"]
    )
    assert len(list(Path("out/cells").glob("*/cell.json"))) == 2


def test_less_is_better_where_recbole_says_so(tiny_dataset: Tiny) -> None:
    assert main(_argv(tiny_dataset, "--trials=0", "--seeds=1", "--metrics=[Recall,GiniIndex]", "--topk=[10]")) == 0
    gini = {row["model"]: row["mean"] for row in json.loads(Path("out/table.json").read_text())[1::2]}
    [line] = [line for line in Path("out/table.md").read_text().splitlines() if line.startswith("| giniindex@10")]
    cells = [cell.strip() for cell in line.split("|")[2:5]]
    assert [cell.startswith("**") for cell in cells[:2]] == [mean == min(gini.values()) for mean in gini.values()]
    assert cells[2].startswith("+") == (gini["GRU4Rec"] < gini["SASRecM"])


def test_another_checkpoint_to_start_from_makes_another_cell(tiny_dataset: Tiny, tmp_path: Path) -> None:
    """A checkpoint counts by its content, not by its path."""
    (tmp_path / "a.pth").write_bytes(b"one")
    (tmp_path / "b.pth").write_bytes(b"another")
    (tmp_path / "c.pth").write_bytes(b"one")
    kept = runner.Runs(tmp_path / "cells", "tiny")
    a, b, c = (
        kept.identity(Row("MSM4SR", "MSM4SR"), {"pretrained_path": str(tmp_path / name)})
        for name in ("a.pth", "b.pth", "c.pth")
    )
    assert a == c != b


def test_a_seed_that_diverges_is_named_and_not_run_again(
    tiny_dataset: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = runner.run
    runs: list[int] = []

    def diverging(model: str, *args: object, config_dict: dict[str, object], **kwargs: object) -> object:
        runs.append(1)
        if model == "SASRecM" and config_dict["seed"] in unlucky:
            raise DivergedError("the training loss became nan")
        return original(model, *args, config_dict=config_dict, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "run", diverging)
    unlucky = [2021]
    assert main(_argv(tiny_dataset, "--trials=0")) == 0
    assert "SASRecM diverged with seed 2021" in capsys.readouterr().out
    rows = json.loads(Path("out/table.json").read_text())
    assert {(row["model"], row["seeds"]) for row in rows} == {("SASRecM", 1), ("GRU4Rec", 2)}
    assert all(row["p_value"] is not None for row in rows)
    n_runs = len(runs)
    assert main(_argv(tiny_dataset, "--trials=0")) == 0
    assert len(runs) == n_runs == 4
    unlucky = [2020, 2021]  # of a row: it is left out; of the subject: there is nothing to compare
    assert main(_argv(tiny_dataset, "--trials=0", "--out=other")) == 0
    assert "SASRecM diverged with every seed, and has no row" in capsys.readouterr().out
    assert {row["model"] for row in json.loads(Path("other/table.json").read_text())} == {"GRU4Rec"}
    assert main(_argv(tiny_dataset, "--trials=0", "--out=other", "--models=GRU4Rec,SASRecM")) == 2
    assert "SASRecM diverged with every seed" in capsys.readouterr().err


def test_settings_that_diverge_are_not_chosen(tiny_dataset: Tiny, grid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = runner.run

    def diverging(model: str, *args: object, config_dict: dict[str, object], **kwargs: object) -> object:
        if config_dict["learning_rate"] == 0.01:
            raise DivergedError("the training loss became nan")
        return original(model, *args, config_dict=config_dict, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "run", diverging)
    assert main(_argv(tiny_dataset, grid, "--trials=2")) == 0
    rows = json.loads(Path("out/report.json").read_text())["rows"]
    assert [row["chosen"]["learning_rate"] for row in rows] == [0.001, 0.001]


def test_damaged_records_count_as_not_done(tiny_dataset: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = _argv(tiny_dataset, "--trials=0", "--models=GRU4Rec", "--seeds=1", "--epochs=1")
    assert main(argv) == 0
    [record] = Path("out/cells").glob("*/cell.json")
    ranks = record.parent / RANKS
    whole, table = (record.read_text(), ranks.read_bytes()), Path("out/table.json").read_bytes()
    content = json.loads(whole[0])
    records = ["", "{", "[]", "[" * 100000, json.dumps({**content, "key": "another"})]
    records += [json.dumps({**content, "test_result": {"recall@5": "high"}}), json.dumps({**content, "seconds": None})]
    damaged = [(text, whole[1]) for text in records]
    damaged += [(whole[0], data) for data in (b"", whole[1][:-100], b"PK" + whole[1])]
    runs: list[str] = []
    original = runner.run

    def counting(model: str, *args: object, **kwargs: object) -> object:
        runs.append(model)
        return original(model, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "run", counting)
    for number, (text, data) in enumerate(damaged, start=1):
        record.write_text(text)
        ranks.write_bytes(data)
        assert main(argv) == 0
        assert len(runs) == number
        assert Path("out/table.json").read_bytes() == table


def test_the_report_is_written_before_a_terminal_that_cannot_show_it(
    tiny_dataset: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert main(_argv(tiny_dataset, "--trials=0", "--models=GRU4Rec", "--epochs=1")) == 0
    assert "±" in Path("out/table.md").read_text(encoding="utf-8")


def test_one_model_one_seed(tiny_dataset: Tiny) -> None:
    assert main(_argv(tiny_dataset, "--trials=0", "--models=GRU4Rec", "--seeds=1")) == 0
    table = Path("out/table.md").read_text()
    assert "a single seed" in table
    assert "±" not in table
    assert "Gain" not in table
    assert [(row["sd"], row["p_value"]) for row in json.loads(Path("out/table.json").read_text())] == [(None, None)] * 4


def test_metrics_that_single_users_do_not_have(tiny_dataset: Tiny) -> None:
    assert main(_argv(tiny_dataset, "--trials=0", "--metrics=[MRR]", "--valid_metric=MRR@10", "--seeds=1")) == 0
    assert {row["p_value"] for row in json.loads(Path("out/table.json").read_text())} == {None}


def test_sampled_evaluation_has_no_tests_and_says_so(tiny_dataset: Tiny) -> None:
    sampled = "--eval_args={split: {LS: valid_and_test}, mode: {valid: full, test: uni5}}"
    few = ["--topk=[2]", "--valid_metric=Recall@2", "--seeds=1"]
    assert main(_argv(tiny_dataset, "--trials=0", *few, sampled)) == 0
    table = Path("out/table.md").read_text()
    assert "No tests" in table
    assert "all items ranked;" not in table
    assert {row["p_value"] for row in json.loads(Path("out/table.json").read_text())} == {None}
