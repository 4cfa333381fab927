"""Trainers: mixed precision of RecBole's models, and stages that move between devices."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.trainer import Trainer
from training_runs import build

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.precision import runs_in_bf16


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_mixed_precision_of_recboles_models_is_bfloat16(
    tiny_dataset: tuple[Path, str], kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trainer, train = build(tiny_dataset, "SASRec", enable_amp=True)
    assert "enable_amp: bfloat16" in caplog.text
    assert trainer.enable_scaler is False
    entered = []
    monkeypatch.setattr(Trainer, "_train_epoch", lambda *_, **__: entered.append(torch.get_autocast_dtype(kind)))
    trainer.config["device"] = torch.device(kind)
    before = torch.get_autocast_dtype(kind)
    trainer._train_epoch(train, 0)
    assert entered == [torch.bfloat16]
    assert torch.get_autocast_dtype(kind) is before


def test_a_loop_that_would_be_float16_is_refused(tiny_dataset: tuple[Path, str]) -> None:
    with pytest.raises(UserError, match="enable_amp: NCL would train in float16"):
        build(tiny_dataset, "NCL", enable_amp=True)


@pytest.mark.parametrize("model", ["SASRec", "LightGCN", "GRCN"])
def test_a_stage_resumes_on_another_device(tiny_dataset: tuple[Path, str], model: str) -> None:
    """No GPU is needed: the device 'meta' stands for one, as the place to load to."""
    trainer, train = build(tiny_dataset, model, epochs=1)
    trainer.fit(train)
    expected = train.generator.get_state(), torch.get_rng_state()
    again, other_train = build(tiny_dataset, model, epochs=2, seed=3)
    again.config["device"] = torch.device("meta")
    again.resume(other_train)
    assert again.start_epoch == 1
    assert torch.equal(other_train.generator.get_state(), expected[0])
    assert torch.equal(torch.get_rng_state(), expected[1])
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, trainer.model.state_dict()[name])


def test_a_recurrent_model_computes_in_float32_where_bfloat16_cannot_run(
    tiny_dataset: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_primitive(*_: Any, **__: Any) -> None:
        raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive")

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.LSTM, "forward", no_primitive)
        trainer, _ = build(tiny_dataset, "MVRNN", precision="bf16")
        assert runs_in_bf16(torch.nn.Linear(1, 1), torch.device("cpu"))
    assert trainer.batch_losses.bf16 is False
    assert "MVRNN computes in float32" in caplog.text


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_a_recurrent_model_trains_in_either_precision_on_any_processor(
    tiny_dataset: tuple[Path, str], precision: str
) -> None:
    trainer, train = build(tiny_dataset, "MVRNN", precision=precision, epochs=1)
    before = torch.get_rng_state()
    runs_in_bf16(trainer.model, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    trainer.fit(train)
