"""UniSRec's adaptor: whitening experts, mixed by a gate that is noisy in training."""

from __future__ import annotations

import numpy as np
import numpy_reference as reference
import pytest
import torch
from tiny_catalogue import randomise

from recbole_msm4sr.model.blocks.whitening_adaptor import WhiteningAdaptor

FEATURE_SIZE, HIDDEN_SIZE, N_EXPERTS = 6, 4, 3


def make_adaptor(dropout_prob: float = 0.0) -> WhiteningAdaptor:
    return randomise(WhiteningAdaptor(FEATURE_SIZE, HIDDEN_SIZE, N_EXPERTS, dropout_prob))


def features(n: int = 5) -> torch.Tensor:
    return torch.randn(n, FEATURE_SIZE, dtype=torch.float64)


@torch.no_grad()
def test_items_are_whitened_by_every_expert_and_mixed_by_their_gates() -> None:
    adaptor, rows = make_adaptor().eval(), features()
    expected = reference.whitening_adaptor(rows.numpy(), reference.to_numpy(adaptor.state_dict()))
    np.testing.assert_allclose(adaptor(rows), expected, rtol=1e-10)


@torch.no_grad()
def test_gates_are_noisy_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    adaptor, rows = make_adaptor().train(), features()
    noise = torch.randn(len(rows), N_EXPERTS, dtype=torch.float64)
    monkeypatch.setattr(torch, "randn_like", lambda logits: noise)
    weights = reference.to_numpy(adaptor.state_dict())
    expected = reference.whitening_adaptor(rows.numpy(), weights, noise.numpy())
    np.testing.assert_allclose(adaptor(rows), expected, rtol=1e-10)


@torch.no_grad()
def test_dropout_hides_features_from_the_experts_and_not_from_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    adaptor, rows = make_adaptor(dropout_prob=0.5).train(), features(200)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    adaptor.experts.weight.zero_()
    adaptor.experts.weight[:, 0] = 1  # every expert sees the first feature alone
    adaptor.shift.zero_()
    ratio = adaptor(rows)[:, 0] / rows[:, 0]  # the gates always sum to one
    assert {round(x, 9) for x in ratio.tolist()} == {0.0, 2.0}


def test_every_weight_learns() -> None:
    adaptor = make_adaptor().train()
    adaptor(features()).pow(2).sum().backward()
    for name, parameter in adaptor.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().min() > 0, name


def test_gates_begin_equal_and_nothing_is_shifted() -> None:
    adaptor = WhiteningAdaptor(FEATURE_SIZE, HIDDEN_SIZE, N_EXPERTS, 0.0).eval()
    rows = features().float()
    mean = adaptor.experts(rows).view(-1, N_EXPERTS, HIDDEN_SIZE).mean(dim=1)
    torch.testing.assert_close(adaptor(rows), mean)
