"""The training loop of our models computes what RecBole's loop computes, and refuses to go on with NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.trainer import Trainer
from training_runs import SIZES

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data import loading
from recbole_msm4sr.training import packed_trainer
from recbole_msm4sr.training.packed_trainer import PackedTrainer

SMALL: dict[str, Any] = {
    **SIZES,
    "train_batch_size": 64,
    "learner": "sgd",  # no normalisation: a difference in a gradient stays as small as it is
    "learning_rate": 0.1,
    "precision": "float32",
}


def build(data_path: Path, name: str, model: str, **settings: Any) -> tuple[PackedTrainer, Any]:
    given = {"data_path": str(data_path), **SMALL, **settings}
    config = Config(model, name, config_dict={"show_progress": False} | given)
    data = loading.load(config)
    train, _, _ = loading.loaders(config, data)
    torch.manual_seed(4)
    trainer = PackedTrainer(config, config.spec.model_class(config, data.parts[0]))
    trainer.start("finetune", Path("model.pth"), Path("progress.pth"))
    return trainer, train


@pytest.mark.parametrize("settings", [{}, {"clip_grad_norm": {"max_norm": 0.1}}])
def test_an_epoch_has_the_losses_and_weights_of_recboles_loop(
    tiny_dataset: tuple[Path, str], settings: dict[str, Any]
) -> None:
    """Dropout included: both draw the same random numbers."""
    ours, train = build(*tiny_dataset, "MSM4SR", training="e2e", **settings)
    recboles, _ = build(*tiny_dataset, "MSM4SR", training="e2e", **settings)
    torch.manual_seed(1)
    found = ours._train_epoch(train, 0)
    torch.manual_seed(1)
    expected = Trainer._train_epoch(recboles, train, 0)
    assert len(found) == 5
    assert found == pytest.approx(expected, rel=1e-5)
    for weight, other in zip(ours.model.parameters(), recboles.model.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-4, atol=1e-6)


def test_clipping_changes_the_result(tiny_dataset: tuple[Path, str]) -> None:
    clipped, train = build(*tiny_dataset, "MSM4SR", clip_grad_norm={"max_norm": 0.01})
    free, _ = build(*tiny_dataset, "MSM4SR")
    torch.manual_seed(1)
    of_clipped = clipped._train_epoch(train, 0)
    torch.manual_seed(1)
    assert of_clipped != pytest.approx(free._train_epoch(train, 0), rel=1e-3)


@pytest.mark.parametrize(("learner", "is_fused"), [("adam", True), ("adamw", True), ("sgd", None)])
def test_adam_updates_all_weights_in_one_kernel(
    tiny_dataset: tuple[Path, str], learner: str, is_fused: bool | None
) -> None:
    trainer, _ = build(*tiny_dataset, "MSM4SR", learner=learner, weight_decay=0.01)
    assert trainer.optimizer.defaults["fused"] is is_fused
    assert trainer.optimizer.defaults["lr"] == 0.1
    assert trainer.optimizer.defaults["weight_decay"] == 0.01


def test_a_loss_that_is_not_finite_ends_training_before_the_epoch_does(
    tiny_dataset: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, train = build(*tiny_dataset, "MSM4SR", train_batch_size=16)
    monkeypatch.setattr(packed_trainer, "_STEPS_BETWEEN_CHECKS", 2)
    steps = []
    monkeypatch.setattr(trainer.optimizer, "step", lambda: steps.append(None))
    with torch.no_grad():
        trainer.model.item_embedding.weight[1:] = float("nan")
    with pytest.raises(UserError, match="the training loss became nan in stage finetune"):
        trainer._train_epoch(train, 0)
    assert len(steps) == 2 < len(train)


def test_recboles_anomaly_detection_is_off(tiny_dataset: tuple[Path, str]) -> None:
    """Importing RecBole's SINE turns it on for the whole process."""
    torch.autograd.set_detect_anomaly(True)
    build(*tiny_dataset, "MSM4SR")
    assert not torch.is_anomaly_enabled()


def test_ids_have_the_rate_and_decay_that_they_are_given(tiny_dataset: tuple[Path, str]) -> None:
    trainer, _ = build(*tiny_dataset, "SASRecM", learner="adam", weight_decay=0.1)
    assert [(group["lr"], group["weight_decay"]) for group in trainer.optimizer.param_groups] == [(0.1, 0.1)] * 2
    apart = {"id_learning_rate": 0.3, "id_weight_decay": 0.0}
    trainer, _ = build(*tiny_dataset, "SASRecM", learner="adam", weight_decay=0.1, **apart)
    rest, ids = trainer.optimizer.param_groups
    assert [(group["lr"], group["weight_decay"]) for group in (rest, ids)] == [(0.1, 0.1), (0.3, 0.0)]
    assert [id(weight) for weight in ids["params"]] == [id(trainer.model.item_embedding.weight)]
    sparse, _ = build(*tiny_dataset, "SASRecM", learner="adam", loss_type="sampled", id_learning_rate=0.3)
    assert sparse.optimizer.sparse.param_groups[0]["lr"] == 0.3
