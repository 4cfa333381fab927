"""Settings of small runs, what they leave, and how to end them early."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.data import loading
from recbole_msm4sr.training import checkpoint
from recbole_msm4sr.training.trainer import StageTrainer, trainer_class

SIZES = {"hidden_size": 8, "attention_size": 4, "inner_size": 16, "n_experts": 2, "MAX_ITEM_LIST_LENGTH": 10}
SMALL = {
    **SIZES,
    "window_stride": 5,
    "train_batch_size": 64,
    "pretrain_batch_size": 64,
    "pretrain_epochs": 2,
    "epochs": 3,
}


class Interrupted(Exception):
    """In place of a kill."""


def interrupt_after(epochs: int, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``stage`` die after so many finished epochs, as a killed process would."""
    save = checkpoint.save

    def save_and_die(path: Path, content: Mapping[str, Any]) -> None:
        save(path, content)
        is_progress = Path(path).name == "progress.pth" and f"-{stage}-" in Path(path).parent.name
        if is_progress and content["epoch"] + 1 == epochs:
            raise Interrupted

    monkeypatch.setattr(checkpoint, "save", save_and_die)


def script_validation(scores: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let validation find the given recall@20 after each epoch, on any processor."""
    evaluate = StageTrainer.evaluate

    def scripted(self: StageTrainer, eval_data: Any, load_best_model: bool = True, **more: Any) -> Any:
        result = evaluate(self, eval_data, load_best_model=load_best_model, **more)
        return result if load_best_model else {**result, "recall@20": scores[len(self.epoch_seconds)]}

    monkeypatch.setattr(StageTrainer, "evaluate", scripted)


def stages(result: dict[str, Any]) -> list[dict[str, Any]]:
    return json.loads((Path(result["run_folder"]) / "metrics.json").read_text())["stages"]


def reused(result: dict[str, Any]) -> list[bool]:
    return [stage["reused"] for stage in stages(result)]


def log_of(result: dict[str, Any]) -> str:
    return next(Path(result["run_folder"]).glob("*.log")).read_text()


def weights(result: dict[str, Any]) -> dict[str, torch.Tensor]:
    return checkpoint.load(Path(result["run_folder"]) / "checkpoint.pth")["state_dict"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def build(tiny: tuple[Path, str], model: str, **settings: Any) -> tuple[Any, Any]:
    """A model's trainer, ready to fit, and its training data."""
    config = Config(model, tiny[1], config_dict={"data_path": str(tiny[0]), "use_gpu": False, **settings})
    data = loading.load(config)
    train, _, _ = loading.loaders(config, data)
    trainer = trainer_class(config)(config, config.spec.model_class(config, data.parts[0]))
    trainer.start("train", Path("model.pth"), Path("progress.pth"))
    return trainer, train
