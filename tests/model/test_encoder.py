"""Attention pooling (eq. 3), mixture of experts (eq. 4-5) and items without a modality."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy_reference as reference
import pytest
import torch
from tiny_catalogue import N_ITEMS, ROWS_OF_ITEM, make_dataset, randomise
from torch import Tensor
from torch.nn import functional as F

from recbole_msm4sr.model.encoder import MixtureOfExperts, ModalityEncoder, SentenceAttention, segment_softmax

OFFSETS = torch.tensor([0, 3, 3, 4, 8, 8])  # items 1 and 4 own no row


def make_attention() -> SentenceAttention:
    return randomise(SentenceAttention(6, 4))


def make_experts(dropout_prob: float = 0.0) -> MixtureOfExperts:
    return randomise(MixtureOfExperts(6, 5, 3, dropout_prob))


def make_encoder(modality: str = "text", **changes: float) -> ModalityEncoder:
    sizes = {"hidden_size": 8, "attention_size": 5, "n_experts": 3, "dropout_prob": 0.0} | changes
    return randomise(ModalityEncoder(*make_dataset().item_features[modality], **sizes))


def rows(n: int = 8) -> Tensor:
    return torch.randn(n, 6, dtype=torch.float64) * 2


def unfused_attention(attention: SentenceAttention, x: Tensor, offsets: Tensor) -> Tensor:
    """Eq. 3 through the [R, d_a] product, item by item."""
    logits = attention.w2(attention.w1(x)).squeeze(-1)
    bounds = pairwise(offsets.tolist())
    return torch.stack([logits[a:b].softmax(0) @ x[a:b] if b > a else x.new_zeros(x.size(1)) for a, b in bounds])


def test_segment_softmax_is_a_softmax_of_every_segment() -> None:
    logits = torch.randn(8, dtype=torch.float64) * 3
    alpha = segment_softmax(logits, OFFSETS)
    for a, b in ((0, 3), (3, 4), (4, 8)):
        np.testing.assert_allclose(alpha[a:b].numpy(), reference.softmax(logits[a:b].numpy()), rtol=1e-12)


def test_segment_softmax_survives_large_logits_of_either_sign() -> None:
    logits = torch.tensor([1e4, 1e4, -1e4, -1e4, 0.0, 5e3, 1.0, 2.0])
    alpha = segment_softmax(logits, OFFSETS)
    torch.testing.assert_close(alpha, torch.tensor([0.5, 0.5, 0, 1, 0, 1, 0, 0]))


def test_segment_softmax_gradient() -> None:
    logits = torch.randn(8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: segment_softmax(x, OFFSETS), logits)


def test_attention_is_equation_3_over_an_items_own_rows() -> None:
    attention, x = make_attention(), rows()
    pooled = attention(x, OFFSETS).detach().numpy()
    w = reference.to_numpy(attention.state_dict())
    for item, (a, b) in enumerate(pairwise(OFFSETS.tolist())):
        if a == b:
            assert (pooled[item] == 0).all()
            continue
        expected = reference.attention_pooling(
            x[a:b].numpy(), w["w1.weight"].T, w["w1.bias"], w["w2.weight"][0], w["w2.bias"][0]
        )
        np.testing.assert_allclose(pooled[item], expected, rtol=1e-9, atol=1e-12)


def test_fused_attention_has_the_gradients_of_the_two_linear_maps() -> None:
    attention, x = make_attention(), rows().requires_grad_()
    weight = torch.randn(5, 6, dtype=torch.float64)
    wanted = (attention.w1.weight, attention.w2.weight, x)
    fused = torch.autograd.grad((attention(x, OFFSETS) * weight).sum(), wanted)
    unfused = torch.autograd.grad((unfused_attention(attention, x, OFFSETS) * weight).sum(), wanted)
    for ours, expected in zip(fused, unfused, strict=True):
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_attention_gradient() -> None:
    attention, x = make_attention(), rows().requires_grad_()
    names = ("w1.weight", "w1.bias", "w2.weight", "w2.bias")
    weights = [attention.get_parameter(name) for name in names]

    def pool(values: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(attention, dict(zip(names, parameters, strict=True)), (values, OFFSETS))

    assert torch.autograd.gradcheck(pool, (x, *weights))


def test_experts_are_equations_4_and_5() -> None:
    experts, pooled = make_experts(), rows()
    weights = reference.to_numpy(experts.state_dict())
    expected = [reference.mixture_of_experts(e, weights) for e in pooled.numpy()]
    np.testing.assert_allclose(experts(pooled).detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_experts_gradient() -> None:
    experts, pooled = make_experts(), rows(3).requires_grad_()
    names = [name for name, _ in experts.named_parameters()]

    def mix(values: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(experts, dict(zip(names, parameters, strict=True)), (values,))

    assert torch.autograd.gradcheck(mix, (pooled, *experts.parameters()))


def test_experts_drop_before_their_layer_norm() -> None:
    """Eq. 4: LayerNorm(Dropout(.)), so that a dropped output is still normalised: mean 0, variance 1."""
    experts = make_experts(dropout_prob=0.5).train()
    with torch.no_grad():
        experts.norm_weight.fill_(1)
        experts.norm_bias.zero_()
        experts.gate.weight.zero_()
        experts.gate.bias.copy_(torch.tensor([0.0, -1e3, -1e3]))  # the first expert alone
    z = experts(rows(50)).detach()
    torch.testing.assert_close(z.mean(-1), torch.zeros(50, dtype=torch.float64), atol=1e-9, rtol=0)
    assert z.var(-1, unbiased=False).median() == pytest.approx(1, abs=1e-3)
    assert not torch.equal(z, experts.eval()(rows(50)))


def test_no_expert_is_refused() -> None:
    with pytest.raises(ValueError, match="n_experts must be at least 1, got 0"):
        MixtureOfExperts(6, 5, 0, 0.0)


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
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_items_without_rows_leave_every_other_weight_alone() -> None:
    encoder = make_encoder("text")
    (encoder(torch.tensor([3, 1]))[0] ** 2).sum().backward()
    assert encoder.missing.grad.abs().sum() > 0
    for name, parameter in encoder.named_parameters():
        if name != "missing":
            assert (parameter.grad == 0).all(), name


@pytest.mark.parametrize("ids", [None, torch.arange(N_ITEMS)])
def test_every_weight_learns_except_the_biases_that_softmax_cancels(ids: Tensor | None) -> None:
    """b1 and b2 of eq. 3 add the same number to all logits of an item."""
    encoder = make_encoder("text")
    z = encoder(ids)
    F.mse_loss(z, torch.randn_like(z)).backward()
    for name, parameter in encoder.named_parameters():
        largest = parameter.grad.abs().max().item()
        if name in ("attention.w1.bias", "attention.w2.bias"):
            assert largest < 1e-12, name
        else:
            assert largest > 1e-6, name


def test_half_precision_features_are_read_in_the_weights_precision() -> None:
    values, offsets = make_dataset().item_features["text"]
    sizes = {"hidden_size": 8, "attention_size": 5, "n_experts": 3, "dropout_prob": 0.0}
    encoder = ModalityEncoder(values, offsets, **sizes)
    assert encoder.values.dtype == torch.float16
    wide = ModalityEncoder(values.float(), offsets, **sizes)
    wide.load_state_dict(encoder.state_dict())
    assert encoder().dtype == torch.float32
    torch.testing.assert_close(encoder(), wide())


def test_features_are_not_saved_with_the_weights() -> None:
    assert not {"values", "offsets"} & set(make_encoder().state_dict())


@pytest.mark.parametrize(
    ("values", "offsets"),
    [(torch.zeros(3, 6), torch.tensor([0, 2])), (torch.zeros(3), torch.tensor([0, 3]))],
)
def test_features_that_do_not_fit_their_offsets_are_refused(values: Tensor, offsets: Tensor) -> None:
    with pytest.raises(ValueError, match=r"values must be \[R, d\]"):
        ModalityEncoder(values, offsets, hidden_size=8, attention_size=5, n_experts=3, dropout_prob=0.0)


def test_attention_runs_under_autocast() -> None:
    """RecBole's enable_amp: logits come in half precision, features do not."""
    attention = SentenceAttention(6, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = attention(torch.randn(5, 6), torch.tensor([0, 2, 2, 5]))
    assert pooled.shape == (3, 6)
