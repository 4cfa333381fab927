"""A modality's encoder (eq. 3-5): its parameters, the items it is asked for, and items without the modality."""

from __future__ import annotations

import numpy as np
import numpy_reference as reference
import pytest
import torch
from tiny_catalogue import N_ITEMS, ROWS_OF_ITEM, make_dataset, randomise
from torch import Tensor
from torch.nn import functional as F

from recbole_msm4sr.model.blocks.encoder import MixtureOfExperts, ModalityEncoder, SentenceAttention

SIZES = {"hidden_size": 8, "attention_size": 5, "n_experts": 3, "dropout_prob": 0.0}
BLOCKS = [{"items_at_once": 1}, {"items_at_once": 3}, {"items_at_once": 4, "items_kept": 0}, {"items_kept": 0}]
COUNTS = {  # rows of every item
    "none at the start": [0, 0, 2, 3],
    "none in the middle": [3, 0, 1, 0, 0, 4],
    "none at the end": [1, 3, 0, 0],
    "no rows at all": [0, 0, 0],
    "a single item": [3],
}


def make_encoder(modality: str = "text", **changes: float) -> ModalityEncoder:
    return randomise(ModalityEncoder(*make_dataset().item_features[modality], **SIZES | changes))


def twin(encoder: ModalityEncoder, **changes: float) -> ModalityEncoder:
    """The same weights with other settings."""
    other = make_encoder(**changes)
    other.load_state_dict(encoder.state_dict())
    return other


def learned(encoder: torch.nn.Module) -> list[Tensor]:
    return [parameter for parameter in encoder.parameters() if parameter.requires_grad]


def gradients(encoder: ModalityEncoder, item_ids: Tensor | None = None) -> tuple[Tensor, ...]:
    """Of a weighted sum of squares, in which every element counts differently."""
    z = encoder(item_ids)
    weight = torch.linspace(-1, 2, z.numel(), dtype=z.dtype).view_as(z)
    return torch.autograd.grad((z.square() * weight).sum(), learned(encoder))


# -- attention (eq. 3) ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("counts", list(COUNTS.values()), ids=list(COUNTS))
def test_attention_is_equation_3_item_by_item(counts: list[int]) -> None:
    attention = randomise(SentenceAttention(6, 4))
    rows = torch.randn(sum(counts), 6, dtype=torch.float64) * 2
    pooled = attention(rows, torch.tensor([0, *counts]).cumsum(0)).detach().numpy()
    weights = reference.to_numpy(attention.state_dict())
    for e, own in zip(pooled, rows.split(counts), strict=True):
        expected = np.zeros(6)
        if len(own):
            linear = weights["w1.weight"].T, weights["w1.bias"], weights["w2.weight"][0], weights["w2.bias"][0]
            expected = reference.attention_pooling(own.numpy(), *linear)
        np.testing.assert_allclose(e, expected, rtol=1e-10, atol=1e-12)


def test_attention_has_the_gradients_of_the_two_linear_maps() -> None:
    attention, rows = randomise(SentenceAttention(6, 4)), torch.randn(7, 6, dtype=torch.float64)
    logits = attention.w2(attention.w1(rows)).squeeze(-1)
    plain = torch.stack([logits[a:b].softmax(0) @ rows[a:b] for a, b in ((0, 3), (3, 7))])
    weight = torch.randn(2, 6, dtype=torch.float64)
    ours = torch.autograd.grad((attention(rows, torch.tensor([0, 3, 7])) * weight).sum(), learned(attention))
    expected = torch.autograd.grad((plain * weight).sum(), learned(attention))
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)
    assert all(gradient.abs().max() > 1e-3 for gradient in expected)


def test_large_attention_logits_of_either_sign_do_not_overflow() -> None:
    attention = SentenceAttention(2, 1)
    with torch.no_grad():
        attention.w1.weight.copy_(torch.tensor([[1e4, 0.0]]))
        attention.w2.weight.fill_(1.0)
    rows = torch.tensor([[1.0, 5.0], [1.0, 7.0], [-1.0, 9.0], [-1.0, 2.0]])
    pooled = attention(rows, torch.tensor([0, 3, 4]))
    torch.testing.assert_close(pooled, torch.tensor([[1.0, 6.0], [-1.0, 2.0]]))
    pooled.sum().backward()
    assert attention.w1.weight.grad.isfinite().all()


def test_attention_is_exact_under_autocast() -> None:
    """In bfloat16 the two rows would have the same logit."""
    attention = SentenceAttention(2, 1)
    with torch.no_grad():
        attention.w1.weight.copy_(torch.tensor([[1e4, 0.0]]))
        attention.w2.weight.fill_(1.0)
    rows = torch.tensor([[1, 5], [1 + 2**-10, -5]], dtype=torch.float16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = attention(rows, torch.tensor([0, 2]))
    torch.testing.assert_close(pooled, attention(rows, torch.tensor([0, 2])), rtol=0, atol=0)
    assert pooled[0, 1] < -4.9


# -- experts (eq. 4-5) ---------------------------------------------------------------------------------------------
def test_layer_norms_begin_with_the_asked_gain() -> None:
    assert (MixtureOfExperts(6, 5, 3, 0.0, norm_init=0.4).norm_weight == 0.4).all()


def test_experts_drop_before_their_layer_norm() -> None:
    """Eq. 4: LayerNorm(Dropout(.)), so that a dropped output is still normalised: mean 0, variance 1."""
    experts = MixtureOfExperts(6, 40, 1, 0.5)
    z = experts(torch.randn(50, 6) * 10)
    torch.testing.assert_close(z.mean(-1), torch.zeros(50), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(-1, unbiased=False), torch.ones(50), atol=1e-2, rtol=0)
    dropped = (z[..., None] == z[:, None]).sum(-1).amax(-1)  # dropped outputs are equal: how many an item has
    assert dropped.float().mean() == pytest.approx(20, abs=2)


# -- the encoder ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("modality", ["text", "image"])
def test_encoder_is_equations_3_to_5_for_every_item(modality: str) -> None:
    encoder, dataset = make_encoder(modality), make_dataset()
    state = {f"m2se.encoders.{modality}.{name}": weight for name, weight in encoder.state_dict().items()}
    expected = reference.encode_items(dataset, state, [modality])[0]
    np.testing.assert_allclose(encoder().detach().numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", [{}, {"items_kept": 0}])
def test_gradients_of_every_weight_numerically(settings: dict[str, int]) -> None:
    encoder = make_encoder(**settings)
    names = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]

    def function(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(encoder, dict(zip(names, parameters, strict=True)), ())

    assert torch.autograd.gradcheck(function, tuple(learned(encoder)))


@pytest.mark.parametrize("ids", [None, torch.tensor([7, 3, 0, 7, 1, 9, 8])], ids=["all", "some"])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_blocks_change_neither_values_nor_gradients(blocks: dict[str, int], ids: Tensor | None) -> None:
    whole = make_encoder()
    in_blocks = twin(whole, **blocks)
    torch.testing.assert_close(in_blocks(ids), whole(ids), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(in_blocks, ids), gradients(whole, ids), rtol=1e-11, atol=1e-12)


def test_rows_that_are_not_kept_are_made_again_bit_by_bit_with_dropout_too() -> None:
    kept = make_encoder(dropout_prob=0.5)
    made_again = twin(kept, dropout_prob=0.5, items_kept=0)
    results = []
    for encoder in (kept, made_again):
        torch.manual_seed(7)
        results.append(gradients(encoder))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(("items_kept", "keeps"), [(N_ITEMS, True), (N_ITEMS - 1, False)])
def test_float_rows_of_many_items_are_not_kept_for_backward(items_kept: int, keeps: bool) -> None:
    """They are most of the memory that a step would need."""
    values, offsets = make_dataset().item_features["text"]
    encoder, saved = ModalityEncoder(values, offsets, **SIZES, items_kept=items_kept), []

    def pack(tensor: Tensor) -> Tensor:
        saved.append((tensor.shape, tensor.dtype))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        encoder()
    assert ((values.shape, torch.float32) in saved) == keeps


def test_encoding_some_items_equals_those_rows_of_encoding_all() -> None:
    encoder = make_encoder()
    ids = torch.tensor([7, 3, 0, 7, 1, 9, 8])
    torch.testing.assert_close(encoder(ids), encoder()[ids], rtol=1e-12, atol=1e-12)


def test_an_item_asked_for_twice_counts_twice_in_the_gradients() -> None:
    encoder = make_encoder()
    some, all_ = encoder(torch.tensor([4, 4, 3, 3])), encoder()[[4, 4, 3, 3]]
    weight = torch.randn(4, 8, dtype=torch.float64)
    ours, expected = (torch.autograd.grad((z * weight).sum(), learned(encoder)) for z in (some, all_))
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_a_row_that_is_not_a_number_spoils_its_own_item_alone() -> None:
    values, offsets = make_dataset().item_features["text"]
    encoder = randomise(ModalityEncoder(values.clone(), offsets, **SIZES))
    healthy = encoder()
    encoder.values[int(offsets[6]), 1] = float("nan")
    others = torch.arange(N_ITEMS) != 6
    assert encoder()[6].isnan().all()
    assert torch.equal(encoder()[others], healthy[others])


def test_dropout_is_for_training_alone_and_follows_the_seed() -> None:
    encoder = make_encoder(dropout_prob=0.5)
    evaluated = encoder.eval()()
    assert torch.equal(evaluated, twin(encoder)())
    encoder.train()
    results = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        results.append(encoder())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert not torch.equal(results[0], evaluated)


# -- items without rows --------------------------------------------------------------------------------------------
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
    assert all(torch.isfinite(parameter.grad).all() for parameter in learned(encoder))


def test_items_without_rows_leave_every_other_weight_alone() -> None:
    encoder = make_encoder("text")
    (encoder(torch.tensor([3, 1]))[0] ** 2).sum().backward()
    assert encoder.missing.grad.abs().sum() > 0
    assert all((p.grad == 0).all() for name, p in encoder.named_parameters() if p.requires_grad and name != "missing")


@pytest.mark.parametrize("ids", [None, torch.arange(N_ITEMS)])
def test_every_weight_learns_except_the_biases_that_softmax_cancels(ids: Tensor | None) -> None:
    """b1 and b2 of eq. 3 add the same number to all logits of an item; so they ask for no gradient."""
    encoder = make_encoder("text")
    z = encoder(ids)
    F.mse_loss(z, torch.randn_like(z)).backward()
    for name, parameter in encoder.named_parameters():
        if name in ("attention.w1.bias", "attention.w2.bias"):
            assert not parameter.requires_grad, name
        else:
            assert parameter.grad.abs().max() > 1e-6, name


# -- precision -----------------------------------------------------------------------------------------------------
def test_half_precision_features_are_read_in_the_weights_precision() -> None:
    values, offsets = make_dataset().item_features["text"]
    encoder = ModalityEncoder(values, offsets, **SIZES)
    assert encoder.values.dtype == torch.float16
    wide = ModalityEncoder(values.float(), offsets, **SIZES)
    wide.load_state_dict(encoder.state_dict())
    assert encoder().dtype == torch.float32
    assert torch.equal(encoder(), wide())


def test_bfloat16_is_close_to_float32_in_values_and_gradients() -> None:
    """Gradients within 2 % in norm, which is a cosine above 0.9998; both are float32 whatever the experts are in."""
    counts = torch.from_numpy(np.random.default_rng(1).integers(0, 5, 200))
    offsets = F.pad(counts.cumsum(0), (1, 0))
    sizes = {"hidden_size": 32, "attention_size": 16, "n_experts": 4, "dropout_prob": 0.2}
    encoder = ModalityEncoder(torch.randn(int(offsets[-1]), 64).half() * 2, offsets, **sizes)
    results = []
    for enabled in (False, True):
        torch.manual_seed(7)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            z = encoder()
        assert z.dtype == torch.float32
        weight = torch.linspace(-1, 2, z.numel()).view_as(z)
        results.append((z, *torch.autograd.grad((z.square() * weight).sum(), learned(encoder))))
    exact, low = results
    torch.testing.assert_close(low[0], exact[0], rtol=0.02, atol=0.02)
    assert not torch.equal(low[0], exact[0])
    for ours, expected in zip(low[1:], exact[1:], strict=True):
        assert ours.dtype == torch.float32
        assert (ours - expected).norm() < 0.02 * expected.norm()


# -- features ------------------------------------------------------------------------------------------------------
def test_features_are_not_saved_with_the_weights() -> None:
    assert not {"values", "offsets"} & set(make_encoder().state_dict())


@pytest.mark.parametrize(
    ("values", "offsets"),
    [(torch.zeros(3, 6), torch.tensor([0, 2])), (torch.zeros(3), torch.tensor([0, 3]))],
)
def test_features_that_do_not_fit_their_offsets_are_refused(values: Tensor, offsets: Tensor) -> None:
    with pytest.raises(ValueError, match=r"values must be \[R, d\]"):
        ModalityEncoder(values, offsets, **SIZES)
