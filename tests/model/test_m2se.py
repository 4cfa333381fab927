"""The backbone: streams in the order of its modalities, mixup only where asked for, no catalogue in its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_catalogue import ITEM_SEQ, N_ITEMS, make_config, make_dataset, packed_batch, randomise

from recbole_msm4sr.model.m2se import M2SE


def make_backbone(modalities: tuple[str, ...] = ("text", "image"), **changes: Any) -> M2SE:
    features = make_dataset().item_features
    return randomise(M2SE({name: features[name] for name in modalities}, make_config(**changes))).eval()


@torch.no_grad()
@pytest.mark.parametrize("modalities", [("text", "image"), ("image", "text"), ("image",)])
def test_every_modality_is_one_stream_in_the_given_order(modalities: tuple[str, ...]) -> None:
    backbone = make_backbone(modalities)
    table = backbone.encode_items()
    assert table.shape == (len(modalities), N_ITEMS, 8)
    states = backbone(table, packed_batch()[ITEM_SEQ])
    for stream, name in enumerate(modalities):
        assert torch.equal(table[stream], backbone.encoders[name]())
        alone = backbone.transformer(table[stream][packed_batch()[ITEM_SEQ]])
        torch.testing.assert_close(states[stream], alone, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_streams_are_mixed_only_at_a_positive_ratio() -> None:
    backbone, item_seq = make_backbone(), packed_batch()[ITEM_SEQ]
    table = backbone.encode_items()
    plain = backbone(table, item_seq)
    assert torch.equal(backbone(table, item_seq, torch.zeros(3, 5)), plain)
    swapped = backbone(table, item_seq, torch.ones(3, 5))  # at p = 1 every item swaps
    torch.testing.assert_close(swapped, plain.flip(0), rtol=1e-12, atol=1e-12)
    half = torch.zeros(3, 5)
    half[0, 2:] = 1  # swapped from the third item of the first row on
    mixed = backbone(table, item_seq, half)
    torch.testing.assert_close(mixed[:, 1:], plain[:, 1:], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mixed[:, 0, :2], plain[:, 0, :2], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(mixed[:, 0, 2:], plain[:, 0, 2:])


@torch.no_grad()
def test_one_modality_has_nothing_to_mix_with() -> None:
    backbone, item_seq = make_backbone(("image",)), packed_batch()[ITEM_SEQ]
    table = backbone.encode_items()
    assert torch.equal(backbone(table, item_seq, torch.ones(3, 5)), backbone(table, item_seq))


def test_no_weight_has_the_size_of_the_catalogue() -> None:
    """So that weights carry over to other data sets."""
    state = make_backbone().state_dict()
    assert not [name for name in state if name.endswith(("values", "offsets"))]
    assert not [name for name, tensor in state.items() if N_ITEMS in tensor.shape]
