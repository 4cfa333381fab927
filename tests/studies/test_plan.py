"""Studies read from command lines, and mistakes found before anything is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_comparison import Tiny, argv

from recbole_msm4sr.cli import main
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.evaluation.comparison import Row
from recbole_msm4sr.studies import cli
from recbole_msm4sr.studies.experiments import Study
from recbole_msm4sr.studies.plan import check


def _rows(tiny: Tiny, *more: str) -> list[Row]:
    study, _ = cli.read_command(argv(tiny, *more))
    return list(check(study).rows)


def _settings(rows: list[Row], *keys: str) -> list[list[Any]]:
    return [[row.settings.get(key) for key in keys] for row in rows]


def test_settings_go_to_the_rows_that_read_them_and_a_rows_own_win(tiny_dataset: Tiny) -> None:
    rows = _rows(tiny_dataset, "--trials=0", "--n_experts=2", "--num_layers=3", "--SASRecM.hidden_size=8")
    assert _settings(rows, "n_experts", "num_layers", "hidden_size") == [[2, None, 8], [None, 3, None]]
    labelled = "--models=few=SASRecM, many = SASRecM, a row=GRU4Rec"
    rows = _rows(tiny_dataset, labelled, "--trials=0", "--n_experts=3", "--few.n_experts=1", "--a row.num_layers=2")
    assert [row.label for row in rows] == ["few", "many", "a row"]
    assert _settings(rows, "n_experts", "num_layers") == [[1, None], [3, None], [None, 2]]


def test_common_settings_of_files_yield_to_the_command_line(tiny_dataset: Tiny) -> None:
    Path("a.yaml").write_text("n_experts: 5\nattention_size: 3\n")
    Path("b.yaml").write_text("n_experts: 6\n")
    words = [*argv(tiny_dataset, "--trials=0", "--attention_size=4"), "--config_files=a.yaml", "b.yaml"]
    study, _ = cli.read_command(words)
    assert _settings(list(check(study).rows), "n_experts", "attention_size") == [[6, 4], [None, None]]


def test_a_grid_reaches_the_rows_that_read_it(tiny_dataset: Tiny) -> None:
    Path("grid.yaml").write_text("learning_rate: [0.01]\nn_experts: [1, 2]\nnum_layers: [1, 2]\n")
    rows = _rows(tiny_dataset, "--trials=9", "--grid=grid.yaml")
    assert [{tuple(point) for point in row.points} for row in rows] == [
        {("learning_rate", "n_experts")},
        {("learning_rate", "num_layers")},
    ]
    assert [len(row.points) for row in rows] == [2, 2]


def test_a_model_with_a_first_stage_is_pre_trained_or_called_from_scratch(tiny_dataset: Tiny) -> None:
    data_path, name = tiny_dataset
    rows = [
        Row("UniSRec", "UniSRec"),
        Row("scratch", "UniSRec", {"training": "finetune"}),
        Row("w/o pre-training", "MSM4SR", {"training": "finetune"}),
        Row("none", "UniSRec", {"training": "two_stage", "pretrain_epochs": 0}),
        Row("MSM4SR", "MSM4SR", {"training": "finetune"}),
        Row("SASRecM", "SASRecM"),
    ]
    checked = check(Study("t", rows, dataset=name, settings={"data_path": str(data_path)}))
    assert [row.label for row in checked.rows] == [
        *("UniSRec", "scratch", "w/o pre-training", "none (from scratch)", "MSM4SR (from scratch)", "SASRecM")
    ]
    assert checked.subject == "MSM4SR (from scratch)"
    assert checked.rows[0].settings["training"] == "two_stage"


def test_torchrun_cannot_run_studies(tiny_dataset: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="torchrun cannot run studies"):
        cli.main(argv(tiny_dataset, "--trials=0"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--SASRec.epochs=1"], "there is no row 'SASRec'"),
        (["--.epochs=1"], "there is no row ''"),
        (["--models=few=,GRU4Rec"], "cannot read the row 'few='"),
        (["--models=a.b=SASRecM"], "cannot read the row 'a.b=SASRecM'"),
        (["--models=one=SASRecM,one=GRU4Rec"], "two rows have the same name"),
        (["--models=,"], "there are no models to compare"),
        (["--models=a\x1b[31m=SASRecM"], r"cannot read the row 'a\x1b[31m=SASRecM'"),
        (["--out="], "--out='' cannot be the folder"),
        (["--out=.."], "--out='..' cannot be the folder"),
        (["--out=x/../.."], "cannot be the folder"),
        (["--out=typo.yaml"], "--out='typo.yaml' cannot be the folder"),
        (["--epohcs=1"], "epohcs"),
        (["--n_experts"], "cannot read the argument '--n_experts'"),
        (["--seed=1"], "give --seeds"),
        (["--SASRecM.seed=1"], "give --seeds"),
        (["--learning_rate=0.1"], "learning_rate is given for SASRecM and searched as well"),
        (["--GRU4Rec.learning_rate=0.1"], "learning_rate is given for GRU4Rec and searched as well"),
        (["--grid=unread.yaml"], "unknown setting 'n_expert' for GRU4Rec"),
        (["--grid=empty.yaml"], "empty.yaml holds no settings"),
        (["--grid=single.yaml"], "'learning_rate' must have a list"),
        (["--trials=-1"], "trials is -1"),
        (["--grid=wrong.yaml"], "learning_rate must be a number above 0"),
        (["--GRU4Rec.topk=[10]"], "differ in topk"),
        (["--GRU4Rec.user_inter_num_interval=[6,inf)"], "360 interactions; GRU4Rec: 35 users"),
        (["--GRU4Rec.valid_metric=NDCG@5"], "differ in valid_metric"),
        (["--trials=1", "--grid=nowhere.yaml"], "nowhere.yaml"),
        (["--grid=disagreeing.yaml"], "must be a multiple of n_heads (3)"),
        (["--grid=seeds.yaml"], "give --seeds"),
        (["--first_seed=-1"], "first_seed is -1"),
        (["--eval_step=0", "--trials=0"], "SASRecM would be trained without validation"),
        (["--config_files=nowhere.yaml"], "cannot read the configuration file nowhere.yaml"),
        (["--config_files=typo.yaml"], "unknown setting 'epohcs'"),
        (["--model=BPR"], "model is not a setting"),
        (["--GRU4Rec.device=cpu"], "device is not a setting: choose it by use_gpu and gpu_id"),
    ],
)
def test_mistakes_are_found_before_anything_runs(
    tiny_dataset: Tiny, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("unread.yaml").write_text("n_expert: [1, 2]\n")
    Path("empty.yaml").write_text("")
    Path("single.yaml").write_text("learning_rate: 0.1\n")
    Path("wrong.yaml").write_text("learning_rate: [0.1, -1]\n")
    Path("disagreeing.yaml").write_text("hidden_size: [8, 9]\nn_heads: [2, 3]\n")
    Path("seeds.yaml").write_text("seed: [1, 2]\n")
    Path("typo.yaml").write_text("epohcs: 1\n")
    assert main(argv(tiny_dataset, *more)) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_users_that_only_some_rows_would_test_are_found_before_anything_runs(
    tiny_dataset: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    data_path, name = tiny_dataset
    with (data_path / name / f"{name}.inter").open("a") as file:
        file.write("short\ti0\t1\nshort\ti1\t2\n")
    assert main(argv(tiny_dataset, "--models=Pop,SASRecM", "--trials=0")) == 2
    assert "different users (Pop on 41, SASRecM on 40)" in capsys.readouterr().err
    assert not Path("runs").exists()
    interval = "--user_inter_num_interval=[3,inf)"
    assert len(_rows(tiny_dataset, "--models=Pop,SASRecM", "--trials=0", interval)) == 2


def test_rows_of_other_items_are_refused_with_the_counts_of_both(
    tiny_dataset: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    """RecBole drops interactions with items that the .item file lacks, for models that read it."""
    data_path, name = tiny_dataset
    (data_path / name / f"{name}.item").write_text("item_id:token\tbrand:token\ni1\tb\ni2\tb\ni3\tb\ni4\tb\n")
    words = argv(tiny_dataset, "--models=SASRecM,DIFSR", "--trials=0", "--topk=[2]", "--valid_metric=Recall@2")
    assert main([*words, "--DIFSR.selected_features=[brand]", "--user_inter_num_interval=[0,inf)"]) == 2
    message = capsys.readouterr().err
    assert "DIFSR and SASRecM cannot be compared" in message
    assert "SASRecM: 40 users, 30 items" in message
    assert "DIFSR: " in message
    assert not Path("runs").exists()
