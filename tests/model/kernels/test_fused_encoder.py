"""``encode`` (eq. 3-5) against the equations item by item, its hand-written gradients, blocks, dropout and dtypes."""

from __future__ import annotations

import weakref
from itertools import pairwise

import numpy as np
import numpy_reference as reference
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_msm4sr.model.kernels import fused_encoder
from recbole_msm4sr.model.kernels.fused_encoder import Mixture, cut_into_blocks, encode, segment_softmax

FEATURE_SIZE, HIDDEN_SIZE, N_EXPERTS = 6, 5, 3
COUNTS = {  # rows of every item
    "every item has rows": [2, 1, 3, 1],
    "none at the start": [0, 0, 2, 3],
    "none in the middle": [3, 0, 1, 0, 0, 4],
    "none at the end": [1, 3, 0, 0],
    "none at either end": [0, 2, 1, 0],
    "a block of items without rows": [4, 0, 0],
    "no rows at all": [0, 0, 0],
    "a single item": [3],
    "a single item without rows": [0],
}
MIXED = [0, 3, 0, 1, 0, 0, 4, 2, 0]
BLOCK_SIZES = [1, 3, 1000]

every_catalogue = pytest.mark.parametrize("counts", list(COUNTS.values()), ids=list(COUNTS))
every_block_size = pytest.mark.parametrize("rows_at_once", BLOCK_SIZES)


def make_rows(counts: list[int], size: int = FEATURE_SIZE) -> tuple[Tensor, Tensor]:
    return torch.randn(sum(counts), size, dtype=torch.float64) * 2, torch.tensor([0, *counts]).cumsum(0)


def make_parameters(
    size: int = FEATURE_SIZE, hidden_size: int = HIDDEN_SIZE, n_experts: int = N_EXPERTS
) -> tuple[Tensor, Mixture]:
    """The attention vector and a mixture of random weights, biases and LayerNorms, all with gradient."""
    shapes = [
        (size,),
        (n_experts * hidden_size, size),
        (n_experts * hidden_size,),
        (n_experts, size),
        (n_experts,),
        (n_experts, hidden_size),
        (n_experts, hidden_size),
    ]
    attention, *mixture = (torch.randn(shape, dtype=torch.float64).mul_(0.5).requires_grad_() for shape in shapes)
    return attention, Mixture(*mixture)


def plain_encode(
    rows: Tensor, offsets: Tensor, attention: Tensor, mixture: Mixture, keep: Tensor | None = None, drop: float = 0.0
) -> Tensor:
    """Eq. 3-5 one item after the other, for autograd; ``keep`` bool ``[n, O, d0]`` is dropout's mask."""
    encoded = []
    for item, (a, b) in enumerate(pairwise(offsets.tolist())):
        pooled = (rows[a:b] @ attention).softmax(0) @ rows[a:b]
        hidden = (mixture.weight @ pooled + mixture.bias).view_as(mixture.gain)
        if keep is not None:
            hidden = hidden * keep[item] / (1 - drop)
        normal = F.layer_norm(hidden, hidden.shape[-1:], eps=1e-5)
        gates = (mixture.gate_weight @ pooled + mixture.gate_bias).softmax(0)
        encoded.append(gates @ (normal * mixture.gain + mixture.shift))
    return torch.stack(encoded)


def gradients(encoded: Tensor, attention: Tensor, mixture: Mixture) -> tuple[Tensor, ...]:
    """Gradients of a weighted sum of squares, in which every element counts differently."""
    weight = torch.linspace(-1, 2, encoded.numel(), dtype=encoded.dtype).view_as(encoded)
    return torch.autograd.grad((encoded.square() * weight).sum(), (attention, *mixture))


def record_masks(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The masks that ``encode`` draws, block by block."""
    masks: list[Tensor] = []
    original = fused_encoder.keep_mask

    def keep_mask(shape: torch.Size, drop_prob: float, device: torch.device) -> Tensor:
        masks.append(original(shape, drop_prob, device))
        return masks[-1]

    monkeypatch.setattr(fused_encoder, "keep_mask", keep_mask)
    return masks


def spy_on_alphas(monkeypatch: pytest.MonkeyPatch) -> list[tuple[weakref.ref[Tensor], int]]:
    """Of every block: its attention weights, and of how many earlier blocks they were still alive."""
    alphas: list[tuple[weakref.ref[Tensor], int]] = []
    original = fused_encoder.segment_softmax

    def spy(logits: Tensor, offsets: Tensor) -> Tensor:
        alpha, alive = original(logits, offsets), sum(earlier() is not None for earlier, _ in alphas)
        alphas.append((weakref.ref(alpha), alive))
        return alpha

    monkeypatch.setattr(fused_encoder, "segment_softmax", spy)
    return alphas


# -- segment_softmax -----------------------------------------------------------------------------------------------
def test_segment_softmax_is_a_softmax_of_every_segment() -> None:
    logits = torch.randn(8, dtype=torch.float64) * 3
    alpha = segment_softmax(logits, torch.tensor([0, 3, 3, 4, 8, 8]))
    for a, b in ((0, 3), (3, 4), (4, 8)):
        np.testing.assert_allclose(alpha[a:b].numpy(), reference.softmax(logits[a:b].numpy()), rtol=1e-12)


def test_segment_softmax_survives_large_logits_of_either_sign() -> None:
    logits = torch.tensor([1e4, 1e4, -1e4, -1e4, 0.0, 5e3, 1.0, 2.0])
    alpha = segment_softmax(logits, torch.tensor([0, 3, 3, 4, 8, 8]))
    torch.testing.assert_close(alpha, torch.tensor([0.5, 0.5, 0, 1, 0, 1, 0, 0]))


# -- blocks --------------------------------------------------------------------------------------------------------
@every_catalogue
@every_block_size
def test_blocks_hold_every_item_and_its_rows_once(
    monkeypatch: pytest.MonkeyPatch, counts: list[int], rows_at_once: int
) -> None:
    monkeypatch.setattr(fused_encoder, "_ROWS_AT_ONCE", rows_at_once)
    offsets = torch.tensor([0, *counts]).cumsum(0)
    blocks = cut_into_blocks(offsets, sum(counts))
    items = [item for block in blocks for item in range(block.first, block.last)]
    assert items == list(range(len(counts)))
    for block in blocks:
        assert (block.begin, block.end) == (offsets[block.first], offsets[block.last])
        assert block.n_rows == sum(counts[block.first : block.last]) < rows_at_once + max(counts)


def test_a_block_ends_with_the_item_that_fills_it_with_rows_or_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_encoder, "_ROWS_AT_ONCE", 3)
    offsets = torch.tensor([0, 1, 3, 3, 4, 8, 8])
    assert cut_into_blocks(offsets, 8) == [(0, 2, 0, 3), (2, 3, 3, 3), (3, 5, 3, 8), (5, 6, 8, 8)]


def test_other_devices_than_a_cpu_take_all_items_at_once() -> None:
    """Cutting would wait for the device; the meta device refuses to tell offsets at all."""
    assert cut_into_blocks(torch.empty(5, dtype=torch.int64, device="meta"), 9) == [(0, 4, 0, 9)]


# -- values --------------------------------------------------------------------------------------------------------
@every_catalogue
@every_block_size
def test_every_item_is_equations_3_to_5(monkeypatch: pytest.MonkeyPatch, counts: list[int], rows_at_once: int) -> None:
    monkeypatch.setattr(fused_encoder, "_ROWS_AT_ONCE", rows_at_once)
    (rows, offsets), (attention, mixture) = make_rows(counts), make_parameters()
    encoded = encode(rows, offsets, attention, mixture, 0.0, torch.float64)
    names = ("experts.weight", "experts.bias", "gate.weight", "gate.bias", "norm_weight", "norm_bias")
    weights = {name: tensor.detach().numpy() for name, tensor in zip(names, mixture, strict=True)}
    one, zero = np.ones(1), np.zeros(1)  # W2 and the biases, with W1 the vector itself
    for item, (a, b) in enumerate(pairwise(offsets.tolist())):
        pooled = np.zeros(FEATURE_SIZE)  # an item without rows
        if b > a:
            w1 = attention.detach().numpy()[:, None]
            pooled = reference.attention_pooling(rows[a:b].numpy(), w1, zero, one, zero)
        expected = reference.mixture_of_experts(pooled, weights)
        np.testing.assert_allclose(encoded[item].detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_large_attention_logits_do_not_overflow() -> None:
    (rows, offsets), (attention, mixture) = make_rows(MIXED), make_parameters()
    rows, attention = rows.float(), (attention * 1e4).float().detach().requires_grad_()
    mixture = Mixture(*(tensor.float() for tensor in mixture))
    encoded = encode(rows, offsets, attention, mixture, 0.0, torch.float32)
    expected = plain_encode(rows, offsets, attention, mixture)
    torch.testing.assert_close(encoded, expected, rtol=1e-4, atol=1e-4)
    assert all(gradient.isfinite().all() for gradient in gradients(encoded, attention, mixture))


def test_a_row_that_is_not_a_number_spoils_its_own_item_alone() -> None:
    (rows, offsets), (attention, mixture) = make_rows([2, 0, 3, 1]), make_parameters()
    healthy = encode(rows, offsets, attention, mixture, 0.0, torch.float64)
    rows[3, 1] = float("nan")  # of item 2
    encoded = encode(rows, offsets, attention, mixture, 0.0, torch.float64)
    assert encoded[2].isnan().all()
    assert torch.equal(encoded[[0, 1, 3]], healthy[[0, 1, 3]])


def test_no_items_have_no_embeddings_and_no_gradient() -> None:
    (rows, offsets), parameters = make_rows([]), make_parameters()
    encoded = encode(rows, offsets, *parameters, 0.0, torch.float64)
    assert encoded.shape == (0, HIDDEN_SIZE)
    assert all((gradient == 0).all() for gradient in gradients(encoded, *parameters))


# -- gradients -----------------------------------------------------------------------------------------------------
@every_block_size
def test_gradients_of_all_parameters_numerically(monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr(fused_encoder, "_ROWS_AT_ONCE", rows_at_once)
    rows, offsets = make_rows([0, 3, 0, 1, 2, 0], size=4)
    attention, mixture = make_parameters(size=4, hidden_size=3, n_experts=2)

    def function(attention: Tensor, *parameters: Tensor) -> Tensor:
        return encode(rows, offsets, attention, Mixture(*parameters), 0.0, torch.float64)

    assert torch.autograd.gradcheck(function, (attention, *mixture))


@every_catalogue
@every_block_size
def test_gradients_of_all_parameters_are_those_of_autograd(
    monkeypatch: pytest.MonkeyPatch, counts: list[int], rows_at_once: int
) -> None:
    monkeypatch.setattr(fused_encoder, "_ROWS_AT_ONCE", rows_at_once)
    (rows, offsets), parameters = make_rows(counts), make_parameters()
    ours = gradients(encode(rows, offsets, *parameters, 0.0, torch.float64), *parameters)
    expected = gradients(plain_encode(rows, offsets, *parameters), *parameters)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10)


def test_block_size_changes_neither_values_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    (rows, offsets), parameters = make_rows(MIXED), make_parameters()
    results = []
    for rows_at_once in BLOCK_SIZES:
        monkeypatch.setattr(fused_encoder, "_ROWS_AT_ONCE", rows_at_once)
        encoded = encode(rows, offsets, *parameters, 0.0, torch.float64)
        results.append((encoded, *gradients(encoded, *parameters)))
    torch.testing.assert_close(results[0], results[2], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(results[1], results[2], rtol=1e-11, atol=1e-11)


def test_frozen_parameters_get_no_gradient_and_the_others_theirs() -> None:
    (rows, offsets), (attention, mixture) = make_rows(MIXED), make_parameters()
    expected = gradients(encode(rows, offsets, attention, mixture, 0.0, torch.float64), attention, mixture)
    wanted = mixture.gate_weight.detach().clone().requires_grad_()
    frozen = Mixture(*(tensor.detach() for tensor in mixture))._replace(gate_weight=wanted)
    encoded = encode(rows, offsets, attention.detach(), frozen, 0.0, torch.float64)
    weight = torch.linspace(-1, 2, encoded.numel(), dtype=encoded.dtype).view_as(encoded)
    (encoded.square() * weight).sum().backward()
    torch.testing.assert_close(wanted.grad, expected[3])
    assert frozen.weight.grad is None


def test_going_back_twice_gives_the_same_gradients() -> None:
    """Backward changes buffers of its own in place; what forward saved stays as it was."""
    (rows, offsets), (attention, mixture) = make_rows(MIXED), make_parameters()
    loss = encode(rows, offsets, attention, mixture, 0.5, torch.float64).square().sum()
    first = torch.autograd.grad(loss, (attention, *mixture), retain_graph=True)
    second = torch.autograd.grad(loss, (attention, *mixture))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_second_derivatives_are_refused() -> None:
    (rows, offsets), (attention, mixture) = make_rows(MIXED), make_parameters()
    loss = encode(rows, offsets, attention, mixture, 0.0, torch.float64).square().sum()
    (gradient,) = torch.autograd.grad(loss, attention, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# -- dropout -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size_of_hidden", [1.0, 1e-3], ids=["ordinary", "as small as epsilon"])
@pytest.mark.parametrize("drop", [0.1, 0.5, 0.9])
@every_block_size
def test_dropout_is_that_of_autograd_with_the_same_masks(
    monkeypatch: pytest.MonkeyPatch, rows_at_once: int, drop: float, size_of_hidden: float
) -> None:
    """Hidden values as small as LayerNorm's ε show that ε, too, counts as it does after dropout's 1 / (1 - p)."""
    monkeypatch.setattr(fused_encoder, "_ROWS_AT_ONCE", rows_at_once)
    masks = record_masks(monkeypatch)
    (rows, offsets), (attention, mixture) = make_rows(MIXED), make_parameters()
    small = mixture._replace(
        weight=(mixture.weight * size_of_hidden).detach().requires_grad_(),
        bias=(mixture.bias * size_of_hidden).detach().requires_grad_(),
    )
    encoded = encode(rows, offsets, attention, small, drop, torch.float64)
    ours = gradients(encoded, attention, small)
    keep = torch.cat(masks)
    assert keep.shape == (len(MIXED), N_EXPERTS, HIDDEN_SIZE)
    assert not keep.all()
    plain = plain_encode(rows, offsets, attention, small, keep, drop)
    torch.testing.assert_close(encoded, plain, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(ours, gradients(plain, attention, small), rtol=1e-8, atol=1e-9)


def test_dropout_is_drawn_at_the_asked_rate_and_anew_for_every_block_and_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_encoder, "_ROWS_AT_ONCE", 200)
    masks = record_masks(monkeypatch)
    (rows, offsets), parameters = make_rows([1] * 200), make_parameters()
    results = [encode(rows, offsets, *parameters, 0.2, torch.float64) for _ in range(2)]
    assert len(masks) == 4
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(results[0], results[1])
    n = sum(mask.numel() for mask in masks)
    kept = sum(int(mask.sum()) for mask in masks) / n
    assert kept == pytest.approx(0.8, abs=5 * (0.2 * 0.8 / n) ** 0.5)


def test_dropout_is_reproducible_from_the_seed() -> None:
    (rows, offsets), parameters = make_rows(MIXED), make_parameters()
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        encoded = encode(rows, offsets, *parameters, 0.5, torch.float64)
        results.append((encoded, *gradients(encoded, *parameters)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_without_dropout_no_random_number_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = record_masks(monkeypatch)
    state = torch.get_rng_state()
    (rows, offsets), parameters = make_rows(MIXED), make_parameters()
    torch.set_rng_state(state)
    encode(rows, offsets, *parameters, 0.0, torch.float64)
    assert not masks
    assert torch.equal(torch.get_rng_state(), state)


def test_experts_drop_before_their_layer_norm() -> None:
    """Eq. 4: LayerNorm(Dropout(.)), so that a dropped output is still normalised: mean 0, variance 1."""
    (rows, offsets), (attention, mixture) = make_rows([1] * 50), make_parameters()
    first_alone = mixture._replace(
        gate_weight=torch.zeros_like(mixture.gate_weight),
        gate_bias=torch.tensor([0.0, -1e3, -1e3], dtype=torch.float64),
        gain=torch.ones_like(mixture.gain),
        shift=torch.zeros_like(mixture.shift),
    )
    z = encode(rows, offsets, attention, first_alone, 0.5, torch.float64).detach()
    torch.testing.assert_close(z.mean(-1), torch.zeros(50, dtype=torch.float64), atol=1e-9, rtol=0)
    assert z.var(-1, unbiased=False).median() == pytest.approx(1, abs=1e-3)
    assert not torch.equal(z, encode(rows, offsets, attention, first_alone, 0.0, torch.float64))


# -- dtypes --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("drop", [0.0, 0.2])
def test_bfloat16_is_close_to_float32_in_values_and_gradients(drop: float) -> None:
    """Gradients within 2 % in norm, which is a cosine above 0.9998; PyTorch's own autocast is as far off."""
    rows, offsets = make_rows([int(count) for count in np.random.default_rng(1).integers(0, 5, 200)], size=64)
    parameters = make_parameters(size=64, hidden_size=32, n_experts=4)
    attention, *mixture = (
        tensor.detach().mul(0.2).float().requires_grad_() for tensor in (parameters[0], *parameters[1])
    )
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(7)
        encoded = encode(rows.half(), offsets, attention, Mixture(*mixture), drop, dtype)
        assert encoded.dtype == torch.float32
        results.append((encoded, *gradients(encoded, attention, Mixture(*mixture))))
    exact, low = results
    torch.testing.assert_close(low[0], exact[0], rtol=0.02, atol=0.02)
    assert not torch.equal(low[0], exact[0])
    for ours, expected in zip(low[1:], exact[1:], strict=True):
        assert ours.dtype == torch.float32
        assert (ours - expected).norm() < 0.02 * expected.norm()


def test_attention_is_exact_whatever_the_experts_are_computed_in() -> None:
    """In bfloat16 the two rows would have the same logit."""
    rows, offsets = torch.tensor([[1, 5], [1 + 2**-10, -5]], dtype=torch.float16), torch.tensor([0, 2])
    _, mixture = make_parameters(size=2)
    mixture = Mixture(*(tensor.float() for tensor in mixture))
    attention = torch.tensor([1e4, 0.0])
    exact, low = (encode(rows, offsets, attention, mixture, 0.0, dtype) for dtype in (torch.float32, torch.bfloat16))
    torch.testing.assert_close(low, exact, rtol=0.02, atol=0.02)
    alone = encode(rows[1:], torch.tensor([0, 1]), attention, mixture, 0.0, torch.float32)
    torch.testing.assert_close(exact, alone, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("exact", [torch.float32, torch.float64])
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_rows_are_read_exactly(half: torch.dtype, exact: torch.dtype) -> None:
    (rows, offsets), parameters = make_rows(MIXED), make_parameters()
    attention, *mixture = (tensor.detach().to(exact).requires_grad_() for tensor in (parameters[0], *parameters[1]))
    rows, results = rows.to(half), []
    for copy in (rows, rows.to(exact)):
        encoded = encode(copy, offsets, attention, Mixture(*mixture), 0.0, exact)
        assert encoded.dtype == exact
        results.append((encoded, *gradients(encoded, attention, Mixture(*mixture))))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


# -- without gradient ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("frozen", [False, True], ids=["no_grad", "frozen parameters"])
def test_without_gradient_nothing_is_kept_and_values_are_the_same(
    monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    monkeypatch.setattr(fused_encoder, "_ROWS_AT_ONCE", 3)
    (rows, offsets), (attention, mixture) = make_rows(MIXED), make_parameters()
    alphas = spy_on_alphas(monkeypatch)
    with_gradient = encode(rows, offsets, attention, mixture, 0.0, torch.float64)
    assert [alive for _, alive in alphas] == list(range(len(alphas)))  # backward needs them
    assert len(alphas) > 3
    alphas.clear()
    if frozen:
        attention, mixture = attention.detach(), Mixture(*(tensor.detach() for tensor in mixture))
    with torch.set_grad_enabled(frozen):
        without = encode(rows, offsets, attention, mixture, 0.0, torch.float64)
    assert without.grad_fn is None
    assert max(alive for _, alive in alphas) <= 1  # the block before
    assert torch.equal(without, with_gradient)


def test_backward_frees_what_forward_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the loss is still held, as a training loop does until the next step's loss is there."""
    (rows, offsets), parameters = make_rows(MIXED), make_parameters()
    alphas = spy_on_alphas(monkeypatch)
    loss = encode(rows, offsets, *parameters, 0.0, torch.float64).square().sum()
    assert all(alpha() is not None for alpha, _ in alphas)
    loss.backward()
    assert all(alpha() is None for alpha, _ in alphas)
