"""A modality's encoder (eq. 3-5): its parameters, the items it is asked for, and items without the modality."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy_reference as reference
import pytest
import torch
from tiny_catalogue import N_ITEMS, ROWS_OF_ITEM, make_dataset, randomise
from torch import Tensor
from torch.nn import functional as F

from recbole_msm4sr.model.blocks.encoder import MixtureOfExperts, ModalityEncoder, SentenceAttention
from recbole_msm4sr.model.kernels import fused_encoder

SIZES = {"hidden_size": 8, "attention_size": 5, "n_experts": 3, "dropout_prob": 0.0}


def make_encoder(modality: str = "text", **changes: float) -> ModalityEncoder:
    return randomise(ModalityEncoder(*make_dataset().item_features[modality], **SIZES | changes))


def encode_with_two_linear_maps(encoder: ModalityEncoder) -> Tensor:
    """Eq. 3 through the [R, d_a] product, item by item; eq. 4-5 as they are."""
    rows, bounds = encoder.values.double(), encoder.offsets.tolist()
    logits = encoder.attention.w2(encoder.attention.w1(rows)).squeeze(-1)
    pooled = torch.stack(
        [logits[a:b].softmax(0) @ rows[a:b] if b > a else rows.new_zeros(rows.size(1)) for a, b in pairwise(bounds)]
    )
    mixture = encoder.experts.mixture()
    hidden = F.linear(pooled, mixture.weight, mixture.bias).view(-1, *mixture.gain.shape)
    experts = F.layer_norm(hidden, hidden.shape[-1:]) * mixture.gain + mixture.shift
    gates = F.linear(pooled, mixture.gate_weight, mixture.gate_bias).softmax(-1)
    z = (gates.unsqueeze(-1) * experts).sum(dim=1)
    return torch.where((encoder.offsets.diff() == 0).unsqueeze(-1), encoder.missing, z)


def test_attention_vector_is_the_product_of_the_two_linear_maps() -> None:
    attention = randomise(SentenceAttention(6, 4))
    rows = torch.randn(7, 6, dtype=torch.float64)
    logits = attention.w2(attention.w1(rows)).squeeze(-1)
    constant = attention.w2(attention.w1.bias)
    torch.testing.assert_close(rows @ attention.vector() + constant, logits, rtol=1e-12, atol=1e-12)


def test_fused_attention_has_the_values_and_gradients_of_the_two_linear_maps() -> None:
    encoder = make_encoder()
    weight = torch.randn(N_ITEMS, 8, dtype=torch.float64)
    fused, unfused = encoder(), encode_with_two_linear_maps(encoder)
    torch.testing.assert_close(fused, unfused, rtol=1e-9, atol=1e-12)
    ours = torch.autograd.grad((fused * weight).sum(), list(encoder.parameters()))
    expected = torch.autograd.grad((unfused * weight).sum(), list(encoder.parameters()))
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10)
    for name in ("attention.w1.weight", "attention.w2.weight"):
        index = [name for name, _ in encoder.named_parameters()].index(name)
        assert expected[index].abs().max() > 1e-3


def test_gradients_of_every_weight_numerically() -> None:
    encoder = make_encoder()
    names = [name for name, _ in encoder.named_parameters()]

    def function(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(encoder, dict(zip(names, parameters, strict=True)), ())

    assert torch.autograd.gradcheck(function, tuple(encoder.parameters()))


def test_no_expert_is_refused() -> None:
    with pytest.raises(ValueError, match="n_experts must be at least 1, got 0"):
        MixtureOfExperts(6, 5, 0, 0.0)


def test_layer_norms_begin_with_the_asked_gain() -> None:
    assert (MixtureOfExperts(6, 5, 3, 0.0, norm_init=0.4).norm_weight == 0.4).all()


@pytest.mark.parametrize("modality", ["text", "image"])
def test_encoder_is_equations_3_to_5_for_every_item(modality: str) -> None:
    encoder, dataset = make_encoder(modality), make_dataset()
    state = {f"m2se.encoders.{modality}.{name}": weight for name, weight in encoder.state_dict().items()}
    expected = reference.encode_items(dataset, state, [modality])[0]
    np.testing.assert_allclose(encoder().detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_encoding_some_items_equals_those_rows_of_encoding_all() -> None:
    encoder = make_encoder()
    ids = torch.tensor([7, 3, 0, 7, 1, 9, 8])
    torch.testing.assert_close(encoder(ids), encoder()[ids], rtol=1e-12, atol=1e-12)


def test_an_item_asked_for_twice_counts_twice_in_the_gradients() -> None:
    encoder = make_encoder()
    some, all_ = encoder(torch.tensor([4, 4, 3, 3])), encoder()[[4, 4, 3, 3]]
    weight = torch.randn(4, 8, dtype=torch.float64)
    ours, expected = (torch.autograd.grad((z * weight).sum(), list(encoder.parameters())) for z in (some, all_))
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_dropout_is_for_training_alone() -> None:
    encoder, without = make_encoder(dropout_prob=0.5), make_encoder()
    without.load_state_dict(encoder.state_dict())
    evaluated = encoder.eval()()
    assert torch.equal(evaluated, without())
    assert not torch.equal(encoder.train()(), evaluated)


def test_items_without_rows_get_the_learned_missing_vector() -> None:
    encoder = make_encoder("text")
    z = encoder()
    for item, count in enumerate(ROWS_OF_ITEM["text"]):
        assert torch.equal(z[item], encoder.missing) == (count == 0)


def test_a_batch_of_items_without_rows_is_encoded() -> None:
    encoder = make_encoder("text")
    z = encoder(torch.tensor([3, 8]))
    assert torch.equal(z, encoder.missing.expand(2, -1))
    z.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())


def test_items_without_rows_leave_every_other_weight_alone() -> None:
    encoder = make_encoder("text")
    (encoder(torch.tensor([3, 1]))[0] ** 2).sum().backward()
    assert encoder.missing.grad.abs().sum() > 0
    for name, parameter in encoder.named_parameters():
        if name != "missing":
            assert (parameter.grad == 0).all(), name


@pytest.mark.parametrize("ids", [None, torch.arange(N_ITEMS)])
def test_every_weight_learns_except_the_biases_that_softmax_cancels(ids: Tensor | None) -> None:
    """b1 and b2 of eq. 3 add the same number to all logits of an item: their gradient is zero, and it is there."""
    encoder = make_encoder("text")
    z = encoder(ids)
    F.mse_loss(z, torch.randn_like(z)).backward()
    for name, parameter in encoder.named_parameters():
        if name in ("attention.w1.bias", "attention.w2.bias"):
            assert (parameter.grad == 0).all(), name
        else:
            assert parameter.grad.abs().max() > 1e-6, name


def test_half_precision_features_are_read_in_the_weights_precision() -> None:
    values, offsets = make_dataset().item_features["text"]
    encoder = ModalityEncoder(values, offsets, **SIZES)
    assert encoder.values.dtype == torch.float16
    wide = ModalityEncoder(values.float(), offsets, **SIZES)
    wide.load_state_dict(encoder.state_dict())
    assert encoder().dtype == torch.float32
    assert torch.equal(encoder(), wide())


def test_features_are_not_saved_with_the_weights() -> None:
    assert not {"values", "offsets"} & set(make_encoder().state_dict())


@pytest.mark.parametrize(
    ("values", "offsets"),
    [(torch.zeros(3, 6), torch.tensor([0, 2])), (torch.zeros(3), torch.tensor([0, 3]))],
)
def test_features_that_do_not_fit_their_offsets_are_refused(values: Tensor, offsets: Tensor) -> None:
    with pytest.raises(ValueError, match=r"values must be \[R, d\]"):
        ModalityEncoder(values, offsets, **SIZES)


def test_autocast_sets_the_precision_of_the_experts_alone() -> None:
    """Output and gradients stay in the weights' precision; nothing else follows autocast."""
    encoder = make_encoder().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = encoder()
    expected = fused_encoder.encode(
        encoder.values,
        encoder.offsets,
        encoder.attention.vector(),
        encoder.experts.mixture(),
        0.0,
        torch.bfloat16,
    )
    has_rows = encoder.offsets.diff() > 0
    assert z.dtype == torch.float32
    assert torch.equal(z[has_rows], expected[has_rows])
    assert not torch.equal(z, encoder())
    z.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in encoder.parameters())
