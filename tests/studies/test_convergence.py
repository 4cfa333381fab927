"""``msm4sr study convergence`` and the losses that ``record_losses`` keeps."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from recbole_msm4sr.cli import main
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.data import loading
from recbole_msm4sr.evaluation.cross_entropy import mean_cross_entropy
from recbole_msm4sr.training import checkpoint
from recbole_msm4sr.training.packed_trainer import PackedTrainer
from recbole_msm4sr.training.recipe import run

Tiny = tuple[Path, str]


def _settings(tiny: Tiny, **more: Any) -> dict[str, Any]:
    small = {"n_experts": 2, "attention_size": 4, "hidden_size": 8, "inner_size": 16, "use_gpu": False}
    fast = {"training": "finetune", "epochs": 3, "learning_rate": 0.01, "train_batch_size": 64}
    return {"data_path": str(tiny[0]), **small, **fast, **more}


def _stage(result: dict[str, Any]) -> dict[str, Any]:
    return json.loads((Path(result["run_folder"]) / "metrics.json").read_text())["stages"][-1]


def test_the_last_test_loss_is_that_of_the_last_weights(tiny_dataset: Tiny) -> None:
    settings = _settings(tiny_dataset, record_losses=True, eval_step=0)  # without validation the last epoch is kept
    result = run("MSM4SR", tiny_dataset[1], config_dict=settings)
    losses = _stage(result)["losses"]
    assert [sorted(epoch) for epoch in losses] == [["test", "train", "valid"]] * 3
    config = Config("MSM4SR", tiny_dataset[1], config_dict=settings)
    data = loading.load(config)
    model = config.spec.model_class(config, data.parts[0])
    model.load_state_dict(checkpoint.load(Path(result["run_folder"]) / "checkpoint.pth")["state_dict"])
    for name, part in zip(("valid", "test"), data.parts[1:], strict=True):
        assert losses[-1][name] == pytest.approx(mean_cross_entropy(model, part), rel=1e-6)
    assert losses[-1]["train"] < losses[0]["train"]


def test_recording_does_not_change_what_is_learnt(tiny_dataset: Tiny) -> None:
    plain, recorded = (
        run("MSM4SR", tiny_dataset[1], config_dict=_settings(tiny_dataset, record_losses=wanted))
        for wanted in (False, True)
    )
    one, other = (
        checkpoint.load(Path(result["run_folder"]) / "checkpoint.pth")["state_dict"] for result in (plain, recorded)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert plain["test_result"] == recorded["test_result"]
    assert _stage(plain)["losses"] == []


def test_an_interrupted_run_keeps_the_losses_and_seconds_of_its_first_epochs(
    tiny_dataset: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(tiny_dataset, record_losses=True, resume=True)
    straight = _stage(run("MSM4SR", tiny_dataset[1], config_dict={**settings, "checkpoint_dir": "other"}))
    train_epoch = PackedTrainer._train_epoch

    def interrupted(self: PackedTrainer, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        if epoch_idx == 2:
            raise KeyboardInterrupt
        return train_epoch(self, train_data, epoch_idx, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(PackedTrainer, "_train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("MSM4SR", tiny_dataset[1], config_dict=settings)
    [progress] = Path("saved").rglob("progress.pth")
    seconds = checkpoint.load(progress)["seconds"]
    assert seconds > 0
    resumed = _stage(run("MSM4SR", tiny_dataset[1], config_dict=settings))
    assert resumed["losses"] == straight["losses"]
    assert resumed["seconds"] > seconds


def test_convergence_draws_every_seeds_losses(tiny_dataset: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    data_path, name = tiny_dataset
    small = ["--n_experts=2", "--attention_size=4", "--hidden_size=8", "--inner_size=16", "--use_gpu=false"]
    argv = ["study", "convergence", f"--dataset={name}", f"--data_path={data_path}", "--trials=0", "--out=out", *small]
    argv += ["--epochs=4", "--pretrain_epochs=1"]
    assert main([*argv, "--seeds=2"]) == 0
    with open("out/losses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["model", "seed", "epoch", "train", "valid", "test"]
    curves = [(row["model"], row["seed"], row["epoch"]) for row in rows]
    assert curves == [
        (model, str(seed), str(epoch))
        for model in ("w/o pre-training", "MSM4SR")
        for seed in (2020, 2021)
        for epoch in range(1, 5)
    ]
    report = json.loads(Path("out/report.json").read_text())
    table = Path("out/table.md").read_text()
    [cell] = [
        json.loads(path.read_text())
        for path in Path("out/cells").glob("*/cell.json")
        if '"training": "finetune"' in path.read_text() and '"seed": 2021' in path.read_text()
    ]
    assert report["rows"][0]["best_epochs"][1] == cell["best_epoch"]
    assert f"{cell['losses'][cell['best_epoch'] - 1]['test']:.4f}" in table
    assert f"{cell['losses'][-1]['test']:.4f}" in table
    with Image.open("out/plot.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    monkeypatch.setattr("recbole_msm4sr.studies.runner.run", None)  # nothing is left to run
    assert main([*argv, "--seeds=2"]) == 0


def test_convergence_has_five_seeds_unless_told(tiny_dataset: Tiny) -> None:
    data_path, name = tiny_dataset
    argv = ["study", "convergence", f"--dataset={name}", f"--data_path={data_path}", "--trials=0", "--out=out"]
    argv += ["--epochs=1", "--pretrain_epochs=0", "--n_experts=1", "--hidden_size=4", "--n_heads=1", "--inner_size=4"]
    assert main([*argv, "--use_gpu=false"]) == 0
    assert [row["seeds"] for row in json.loads(Path("out/report.json").read_text())["rows"]] == [
        [*range(2020, 2025)]
    ] * 2
