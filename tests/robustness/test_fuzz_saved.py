"""Damaged files that a run left: reused as they were, made again, or refused by name; never used."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from damage import Damage, bytes_damage, damaged, inputs
from hypothesis import given
from hypothesis import strategies as st
from outcome import metrics_of, outcome_of

from recbole_msm4sr.cli import main

_ONE_EPOCH = [
    "--epochs=1",
    "--topk=[5]",
    "--valid_metric=Recall@5",
    "--use_gpu=false",
    "--n_experts=2",
    "--hidden_size=16",
]
_RUN = ["--model=MSM4SR", "--dataset=tiny", "--pretrain_epochs=1", "--attention_size=4", "--n_heads=2", *_ONE_EPOCH]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A folder in which everything has been run once."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        shutil.copytree(tiny_data, "dataset/tiny")
        assert main(_RUN) == 0
        assert main(_COMPARE) == 0
    return place


_COMPARE = ["compare", "--models=SASRec,BPR", "--dataset=tiny", "--trials=0", "--seeds=1", "--out=studies/one"]
_COMPARE += ["--epochs=1", "--topk=[5]", "--valid_metric=Recall@5", "--use_gpu=false"]


def _files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _figures(metrics: dict[str, Any]) -> Any:
    return metrics["test_result"], metrics["best_valid_result"]


@inputs(4)
@given(st.data(), st.lists(bytes_damage, min_size=1, max_size=2))
def test_what_a_run_left(finished: Path, data: st.DataObject, damages: list[Damage]) -> None:
    expected = metrics_of(finished / "runs", "tiny", "MSM4SR")
    names = [path for path in _files(finished) if path.parts[0] in ("runs", "saved")]
    name = data.draw(st.sampled_from(names))
    shutil.copytree(finished, "here", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("here")
        name.write_bytes(damaged(name.read_bytes(), damages))
        outcome_of(main, _RUN, [])
        assert _figures(metrics_of(Path("runs"), "tiny", "MSM4SR")) == _figures(expected)
    shutil.rmtree("here")


@inputs(2)
@given(st.data(), st.lists(bytes_damage, min_size=1, max_size=2))
def test_what_a_comparison_left(finished: Path, data: st.DataObject, damages: list[Damage]) -> None:
    names = [path for path in _files(finished) if path.parts[0] == "studies"]
    name = data.draw(st.sampled_from(names))
    expected = (finished / "studies/one/table.md").read_text(encoding="utf-8")
    shutil.copytree(finished, "here", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("here")
        name.write_bytes(damaged(name.read_bytes(), damages))
        outcome_of(main, _COMPARE, [])
        table = [line for line in Path("studies/one/table.md").read_text().splitlines() if line.startswith("| recall")]
        assert table
        assert table == [line for line in expected.splitlines() if line.startswith("| recall")]
    shutil.rmtree("here")


@inputs(4)
@given(st.lists(bytes_damage, min_size=1, max_size=2))
def test_a_checkpoint_to_start_from(finished: Path, damages: list[Damage]) -> None:
    pretrained = next(finished.glob("saved/tiny/MSM4SRPretrain-*/model.pth"))
    Path("start.pth").write_bytes(damaged(pretrained.read_bytes(), damages))
    argv = [*_RUN, f"--data_path={finished / 'dataset'}", "--pretrained_path=start.pth", "--runs_dir=started"]
    shutil.rmtree("started", ignore_errors=True)
    outcome = outcome_of(main, argv, ["start.pth"])
    if outcome.works:
        expected = metrics_of(finished / "runs", "tiny", "MSM4SR")
        assert _figures(metrics_of(Path("started"), "tiny", "MSM4SR")) == _figures(expected)


@inputs(4)
@given(st.data(), st.lists(bytes_damage, min_size=1, max_size=2))
def test_a_feature_store(finished: Path, data: st.DataObject, damages: list[Damage]) -> None:
    shutil.rmtree("runs", ignore_errors=True)
    shutil.copytree(finished / "dataset", "dataset", dirs_exist_ok=True)
    name = data.draw(st.sampled_from(_files(Path("dataset/tiny/features"))))
    path = Path("dataset/tiny/features") / name
    path.write_bytes(damaged(path.read_bytes(), damages))
    outcome = outcome_of(main, [*_RUN, "--reuse=false"], [name.name, str(name.parent), "feature"])
    if outcome.works:
        expected = metrics_of(finished / "runs", "tiny", "MSM4SR")
        assert _figures(metrics_of(Path("runs"), "tiny", "MSM4SR")) == _figures(expected)
