"""CausalTransformer computes what RecBole's SASRec computes, and never looks ahead."""

from __future__ import annotations

import pytest
import torch
from numpy_reference import last_state, to_numpy
from recbole.model.sequential_recommender.sasrec import SASRec
from tiny_catalogue import MAX_LENGTH, make_config, make_dataset, randomise
from torch import nn

from recbole_msm4sr.model.blocks.transformer import CausalTransformer, initialise

SIZES = {
    "hidden_size": 8,
    "inner_size": 12,
    "n_layers": 2,
    "n_heads": 2,
    "max_seq_length": MAX_LENGTH,
    "hidden_dropout_prob": 0.3,
    "attn_dropout_prob": 0.3,
    "layer_norm_eps": 1e-12,
}


def make_transformer() -> CausalTransformer:
    return randomise(CausalTransformer(**SIZES)).eval()


def sasrec_with_weights_of(transformer: CausalTransformer) -> SASRec:
    """RecBole's SASRec whose encoder has the transformer's weights."""
    sasrec = randomise(SASRec(make_config(hidden_act="gelu", loss_type="CE"), make_dataset())).eval()
    sasrec.position_embedding.load_state_dict(transformer.position_embedding.state_dict())
    sasrec.LayerNorm.load_state_dict(transformer.norm.state_dict())
    for theirs, ours in zip(sasrec.trm_encoder.layer, transformer.layers, strict=True):
        attention, feed_forward = theirs.multi_head_attention, theirs.feed_forward
        parts = zip(ours.query_key_value.weight.chunk(3), ours.query_key_value.bias.chunk(3), strict=True)
        for linear, (weight, bias) in zip((attention.query, attention.key, attention.value), parts, strict=True):
            linear.load_state_dict({"weight": weight, "bias": bias})
        attention.dense.load_state_dict(ours.attention_output.state_dict())
        attention.LayerNorm.load_state_dict(ours.attention_norm.state_dict())
        feed_forward.dense_1.load_state_dict(ours.inner.state_dict())
        feed_forward.dense_2.load_state_dict(ours.outer.state_dict())
        feed_forward.LayerNorm.load_state_dict(ours.feed_forward_norm.state_dict())
    return sasrec


@torch.no_grad()
def test_states_are_those_of_recboles_sasrec() -> None:
    transformer = make_transformer()
    sasrec = sasrec_with_weights_of(transformer)
    item_seq = torch.tensor([[1, 2, 3, 4, 5, 6, 7], [9, 8, 2, 0, 0, 0, 0], [4, 4, 1, 5, 0, 0, 0]])
    states = transformer(sasrec.item_embedding(item_seq))
    for row, length in enumerate((7, 3, 4)):
        for time in range(length):
            expected = sasrec(item_seq[[row]], torch.tensor([time + 1]))[0]
            torch.testing.assert_close(states[row, time], expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_states_are_those_of_a_transformer_written_out() -> None:
    """Not only equal to RecBole's: post-norm blocks, scaled attention per head, exact GELU."""
    transformer, embeddings = make_transformer(), torch.randn(1, 5, 8, dtype=torch.float64)
    expected = last_state(embeddings[0].numpy(), to_numpy(transformer.state_dict()), n_heads=2, eps=1e-12)
    torch.testing.assert_close(transformer(embeddings)[0, -1], torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_later_item_changes_no_earlier_state() -> None:
    transformer, embeddings = make_transformer(), torch.randn(2, 6, 8, dtype=torch.float64)
    before = transformer(embeddings)
    for time in range(1, 6):
        changed = embeddings.clone()
        changed[:, time] = torch.randn(2, 8)
        after = transformer(changed)
        torch.testing.assert_close(after[:, :time], before[:, :time], rtol=0, atol=1e-12)
        assert (after[:, time:] - before[:, time:]).abs().amax(-1).min() > 1e-6


@torch.no_grad()
def test_padding_behind_a_row_has_no_influence() -> None:
    transformer, embeddings = make_transformer(), torch.randn(2, 4, 8, dtype=torch.float64)
    padded = torch.cat([embeddings, torch.full((2, 3, 8), 1e3, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(transformer(padded)[:, :4], transformer(embeddings), rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("n_layers", [1, 3])
def test_the_state_of_one_position_is_that_of_the_whole_row(n_layers: int) -> None:
    transformer = randomise(CausalTransformer(**(SIZES | {"n_layers": n_layers}))).eval()
    embeddings, last = torch.randn(5, MAX_LENGTH, 8, dtype=torch.float64), torch.tensor([0, 3, MAX_LENGTH - 1, 3, 1])
    expected = transformer(embeddings)[torch.arange(5), last]
    torch.testing.assert_close(transformer(embeddings, last), expected, rtol=1e-12, atol=1e-12)
    streams = torch.stack([embeddings, embeddings.flip(-1)])  # [S, U, L, d0]
    torch.testing.assert_close(transformer(streams)[1], transformer(streams[1]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(transformer(streams, last)[1], transformer(streams[1], last), rtol=1e-12, atol=1e-12)


def test_dropout_acts_in_training_mode_only() -> None:
    transformer, embeddings = make_transformer(), torch.randn(2, 4, 8, dtype=torch.float64)
    assert torch.equal(transformer(embeddings), transformer(embeddings))
    transformer.train()
    assert not torch.equal(transformer(embeddings), transformer(embeddings))


@pytest.mark.parametrize("probability", ["hidden_dropout_prob", "attn_dropout_prob"])
def test_each_dropout_probability_is_used(probability: str) -> None:
    sizes = SIZES | {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, probability: 0.5}
    transformer, embeddings = randomise(CausalTransformer(**sizes)).train(), torch.randn(2, 6, 8).double()
    assert not torch.equal(transformer(embeddings), transformer(embeddings))


def test_initialisation_is_berts_and_keeps_the_padding_row_at_zero() -> None:
    model = nn.ModuleList([nn.Linear(200, 100), nn.Embedding(50, 100, padding_idx=0), nn.LayerNorm(4)])
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7)
    model.apply(lambda module: initialise(module, 0.02))
    linear, embedding, norm = model
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (linear.bias == 0).all()
    assert embedding.weight[1:].std().item() == pytest.approx(0.02, rel=0.1)
    assert (embedding.weight[0] == 0).all()
    assert (norm.weight == 1).all()
    assert (norm.bias == 0).all()
