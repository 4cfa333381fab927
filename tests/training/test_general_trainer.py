"""The trainer of our general models: RecBole's steps, with a fused Adam and clear errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_runs import build

from recbole_msm4sr.core.errors import DivergedError
from recbole_msm4sr.training.general_trainer import GeneralTrainer


def test_our_general_models_get_it(tiny_dataset: tuple[Path, str]) -> None:
    trainer, _ = build(tiny_dataset, "GRCN")
    assert type(trainer) is GeneralTrainer


@pytest.mark.parametrize(("learner", "is_fused"), [("adam", True), ("adamw", True), ("sgd", None)])
def test_adam_updates_all_weights_in_one_kernel(
    tiny_dataset: tuple[Path, str], learner: str, is_fused: bool | None
) -> None:
    trainer, _ = build(tiny_dataset, "GRCN", learner=learner, weight_decay=0.01, learning_rate=0.1)
    assert trainer.optimizer.defaults["fused"] is is_fused
    assert trainer.optimizer.defaults["lr"] == 0.1
    assert trainer.optimizer.defaults["weight_decay"] == 0.01
    given = {id(weight) for group in trainer.optimizer.param_groups for weight in group["params"]}
    assert given == {id(weight) for weight in trainer.model.parameters()}


@pytest.mark.parametrize("model", ["GRCN", "DualGNN"])
def test_the_graph_holds_the_training_interactions_and_no_others(tiny_dataset: tuple[Path, str], model: str) -> None:
    trainer, train = build(tiny_dataset, model)
    feat = train._dataset.inter_feat
    pairs = set(zip(feat["user_id"].tolist(), feat["item_id"].tolist(), strict=True))
    graph = trainer.model.graph
    assert list(zip(graph.rows.tolist(), graph.columns.tolist(), strict=True)) == sorted(pairs)


def test_a_loss_that_is_not_finite_ends_training(tiny_dataset: tuple[Path, str]) -> None:
    trainer, train = build(tiny_dataset, "GRCN")
    with torch.no_grad():
        trainer.model.item_embedding.weight[1:] = float("nan")
    with pytest.raises(DivergedError, match="the training loss became nan in stage train"):
        trainer._train_epoch(train, 0)


def test_losses_are_logged_by_name(tiny_dataset: tuple[Path, str]) -> None:
    for model, names in (
        ("DualGNN", ["bpr", "regularisation"]),
        ("CLCRec", ["id_content", "user_item", "regularisation"]),
    ):
        trainer, train = build(tiny_dataset, model)
        assert list(trainer._mean_losses(trainer._train_epoch(train, 0), train)) == names
