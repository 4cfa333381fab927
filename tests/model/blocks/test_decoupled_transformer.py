"""DIF-SR's transformer equals its equations written out, and never looks ahead, whatever fuses the scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy_reference import decoupled_states, to_numpy
from tiny_catalogue import MAX_LENGTH, randomise
from torch import Tensor

from recbole_msm4sr.model.blocks.decoupled_transformer import DecoupledTransformer

HIDDEN_SIZE, SIDE_SIZES, N_HEADS = 8, (4, 6), 2
FUSIONS = ["sum", "concat", "gate"]


def make_transformer(fusion_type: str, **changes: Any) -> DecoupledTransformer:
    settings: dict[str, Any] = {
        "hidden_size": HIDDEN_SIZE,
        "side_sizes": SIDE_SIZES,
        "inner_size": 12,
        "n_layers": 2,
        "n_heads": N_HEADS,
        "max_seq_length": MAX_LENGTH,
        "hidden_dropout_prob": 0.3,
        "attn_dropout_prob": 0.3,
        "layer_norm_eps": 1e-12,
        "fusion_type": fusion_type,
    }
    return randomise(DecoupledTransformer(**{**settings, **changes})).eval()


def sequences(rows: int = 2, length: int = 5) -> tuple[Tensor, list[Tensor]]:
    """Embeddings of items and of their side information."""
    items, *sides = (torch.randn(rows, length, size, dtype=torch.float64) for size in (HIDDEN_SIZE, *SIDE_SIZES))
    return items, sides


@torch.no_grad()
@pytest.mark.parametrize("fusion_type", FUSIONS)
@pytest.mark.parametrize("length", [1, 4, MAX_LENGTH])
def test_states_are_those_of_the_equations_written_out(fusion_type: str, length: int) -> None:
    transformer = make_transformer(fusion_type)
    items, sides = sequences(rows=2, length=length)
    states = transformer(items, sides)
    weights = to_numpy(transformer.state_dict())
    for row in range(2):
        own = [side[row].numpy() for side in sides]
        expected = decoupled_states(items[row].numpy(), own, weights, N_HEADS, fusion_type)
        np.testing.assert_allclose(states[row], expected, rtol=1e-8, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("fusion_type", FUSIONS)
def test_a_later_item_changes_no_earlier_state(fusion_type: str) -> None:
    transformer = make_transformer(fusion_type)
    items, sides = sequences()
    before = transformer(items, sides)
    for part in (items, *sides):
        part[:, 3] += 1.0
    after = transformer(items, sides)
    torch.testing.assert_close(after[:, :3], before[:, :3], rtol=0, atol=1e-12)
    assert (after[:, 3:] - before[:, 3:]).abs().amax(dim=-1).min() > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("fusion_type", FUSIONS)
@pytest.mark.parametrize("n_layers", [1, 2])
def test_the_state_of_one_position_is_that_of_the_whole_row(fusion_type: str, n_layers: int) -> None:
    transformer = make_transformer(fusion_type, n_layers=n_layers)
    items, sides = sequences(rows=4)
    last = torch.tensor([0, 4, 2, 3])
    expected = transformer(items, sides)[torch.arange(4), last]
    torch.testing.assert_close(transformer(items, sides, last), expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("fusion_type", FUSIONS)
def test_side_information_guides_attention_and_is_not_passed_on(fusion_type: str) -> None:
    transformer = make_transformer(fusion_type, n_layers=1)
    items, sides = sequences()
    others = [[torch.randn_like(side) if i == changed else side for i, side in enumerate(sides)] for changed in (0, 1)]
    for other in others:
        assert not torch.allclose(transformer(items, sides), transformer(items, other))
    transformer.layers[0].attention.value.weight.zero_()
    for other in others:
        torch.testing.assert_close(transformer(items, sides), transformer(items, other))


@torch.no_grad()
@pytest.mark.parametrize("fusion_type", FUSIONS)
@pytest.mark.parametrize("probability", ["hidden_dropout_prob", "attn_dropout_prob"])
def test_each_dropout_probability_acts_in_training_mode_only(fusion_type: str, probability: str) -> None:
    others = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
    transformer = make_transformer(fusion_type, **{**others, probability: 0.5})
    items, sides = sequences()
    assert torch.equal(transformer(items, sides), transformer(items, sides))
    transformer.train()
    assert not torch.allclose(transformer(items, sides), transformer(items, sides))


def test_a_fusion_of_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="must be sum, concat or gate, got 'mean'"):
        make_transformer("mean")
