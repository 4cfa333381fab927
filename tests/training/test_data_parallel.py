"""Two processes train and evaluate as one process with batches of twice the size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torchrun import ROOT, torchrun
from training_runs import SIZES
from two_processes import in_two_processes

import recbole_msm4sr
from recbole_msm4sr.training import checkpoint
from recbole_msm4sr.training.stage_trainer import StageTrainer

SMALL: dict[str, Any] = {
    **SIZES,
    "window_stride": 5,
    "pretrain_epochs": 3,
    "pretrain_eval_step": 1,
    "epochs": 3,
    "precision": "float32",
}
WITHOUT_CHANCE = {
    "encoder_dropout_prob": 0.0,
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "sequence_dropout": 0.0,
    "use_mixup": False,
}


class _Interrupted(Exception):
    pass


@contextmanager
def recorded_losses() -> Iterator[list[dict[str, float]]]:
    """The mean losses of every epoch that is trained within."""
    losses: list[dict[str, float]] = []
    original = StageTrainer._mean_losses

    def record(self: StageTrainer, total: Any, train_data: Any) -> dict[str, float]:
        losses.append(original(self, total, train_data))
        return losses[-1]

    StageTrainer._mean_losses = record  # type: ignore[method-assign]
    try:
        yield losses
    finally:
        StageTrainer._mean_losses = original  # type: ignore[method-assign]


@contextmanager
def interrupted_after_an_epoch(stage: str) -> Iterator[None]:
    """Every process dies after the first epoch of ``stage``."""
    save = StageTrainer._save_progress

    def save_and_die(self: StageTrainer, epoch: int, train_data: Any) -> None:
        save(self, epoch, train_data)
        if self.stage == stage:
            raise _Interrupted

    StageTrainer._save_progress = save_and_die  # type: ignore[method-assign]
    try:
        yield
    except _Interrupted:
        pass
    finally:
        StageTrainer._save_progress = save  # type: ignore[method-assign]


def train(data_path: Path, name: str, batch_size: int, **settings: Any) -> dict[str, Any]:
    sizes = {"train_batch_size": batch_size, "pretrain_batch_size": batch_size}
    with recorded_losses() as losses:
        result = recbole_msm4sr.run(
            "MSM4SR", name, config_dict={"data_path": str(data_path), **SMALL, **sizes, **settings}
        )
    folder = Path(result["run_folder"])
    return {
        "losses": [value for epoch in losses for value in epoch.values()],
        "test": result["test_result"],
        "valid": result["best_valid_result"],
        "identity": [stage["identity"] for stage in json.loads((folder / "metrics.json").read_text())["stages"]],
        "weights": [w.numpy() for w in checkpoint.load(folder / "checkpoint.pth")["state_dict"].values()],
        "folder": str(folder),
    }


def train_evenly(data_path: Path, name: str) -> dict[str, Any]:
    return {
        "even": train(data_path, name, 32, **WITHOUT_CHANCE),
        "e2e": train(data_path, name, 32, **WITHOUT_CHANCE, training="e2e"),
        "few windows": train(data_path, name, 2, **WITHOUT_CHANCE, pretrain_epochs=1, epochs=1),
    }


def test_two_processes_train_and_evaluate_as_one_with_twice_the_batch(tiny_dataset: tuple[Path, str]) -> None:
    first, second = in_two_processes(train_evenly, *tiny_dataset)
    whole = {
        "even": train(*tiny_dataset, 64, **WITHOUT_CHANCE),
        "e2e": train(*tiny_dataset, 64, **WITHOUT_CHANCE, training="e2e"),
        "few windows": train(*tiny_dataset, 4, **WITHOUT_CHANCE, pretrain_epochs=1, epochs=1),
    }
    for name, expected in whole.items():
        assert first[name]["losses"] == pytest.approx(expected["losses"], rel=1e-5), name
        assert first[name]["test"] == expected["test"], name
        assert first[name]["valid"] == expected["valid"], name
        assert first[name]["identity"] != expected["identity"], "other batches make other stages"
        for key in ("losses", "test", "valid", "folder"):
            assert first[name][key] == second[name][key], "every process knows the same"


def interrupt_resume_and_reuse(data_path: Path, name: str) -> dict[str, Any]:
    out = {"whole": train(data_path, name, 32)}
    for stage in ("pretrain", "finetune"):
        with interrupted_after_an_epoch(stage):
            train(data_path, name, 32, checkpoint_dir=stage)
        out[f"resumed {stage}"] = train(data_path, name, 32, checkpoint_dir=stage, resume=True)
    out["seed"] = torch.initial_seed()  # of the last epoch that was trained
    out["reused"] = train(data_path, name, 32)
    return out


def test_processes_resume_and_reuse_as_one_does(tiny_dataset: tuple[Path, str]) -> None:
    """With dropout: resumed bit for bit, in both processes; the first alone has written."""
    processes = in_two_processes(interrupt_resume_and_reuse, *tiny_dataset)
    for process in processes:
        whole = process["whole"]
        for stage in ("pretrain", "finetune"):
            resumed = process[f"resumed {stage}"]
            assert resumed["losses"] == whole["losses"][-len(resumed["losses"]) :]
            assert 0 < len(resumed["losses"]) < len(whole["losses"])
            assert all((a == b).all() for a, b in zip(resumed["weights"], whole["weights"], strict=True))
            assert resumed["test"] == whole["test"]
        assert process["reused"]["losses"] == []
        assert process["reused"]["test"] == whole["test"]
    assert processes[0]["whole"]["losses"] == processes[1]["whole"]["losses"]
    assert processes[0]["seed"] != processes[1]["seed"], "processes draw masks of their own"
    runs = sorted(Path("runs/tiny/MSM4SR").iterdir())
    assert len(runs) == 6
    assert not Path("log_tensorboard").exists()
    log = next(Path(processes[0]["whole"]["folder"]).glob("*.log")).read_text()
    assert log.count("finetune epoch 1/3") == 1


def test_torchrun_trains_and_prints_one_table(tiny_dataset: tuple[Path, str]) -> None:
    settings = [f"--{key}={value}" for key, value in (SMALL | {"epochs": 1, "pretrain_epochs": 1}).items()]
    data = ("--dataset=tiny", f"--data_path={tiny_dataset[0]}")
    done = torchrun(str(ROOT / "run_recbole.py"), "--model=MSM4SR", *data, *settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("MSM4SR") == 1
    assert done.stderr.count("pretrain epoch 1/1") == done.stderr.count("finetune epoch 1/1") == 1
    assert "Warning" not in done.stderr
    (folder,) = Path("runs/tiny/MSM4SR").iterdir()
    assert json.loads((folder / "environment.json").read_text())["processes"] == 2
    assert checkpoint.load(folder / "checkpoint.pth")["state_dict"].keys()


def test_a_failure_of_one_process_ends_the_run_with_its_message(tiny_dataset: tuple[Path, str]) -> None:
    script = Path("fails.py")
    script.write_text(
        "import os, sys\n"
        "from recbole_msm4sr.cli import main\n"
        "from recbole_msm4sr.core.errors import UserError\n"
        "from recbole_msm4sr.training.packed_trainer import PackedTrainer\n"
        "def fail(*args, **settings):\n"
        "    raise UserError('the second process is out of luck')\n"
        "if os.environ['RANK'] == '1':\n"
        "    PackedTrainer._train_epoch = fail\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = torchrun(
        str(script), "--model=SASRecM", "--dataset=tiny", f"--data_path={tiny_dataset[0]}", "--hidden_size=8"
    )
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("msm4sr: error: ")]
    assert errors == ["msm4sr: error: the second process is out of luck"]
