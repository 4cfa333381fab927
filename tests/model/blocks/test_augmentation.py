"""Sequence random dropout loses inputs, never targets; mixup is complementary and spares padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recbole_msm4sr.model.blocks.augmentation import complementary_mixup, sequence_dropout

LENGTH = torch.tensor([6, 1, 4, 2, 5])
ITEM_SEQ = torch.arange(1, 31).view(5, 6) * (torch.arange(6) < LENGTH[:, None])  # all items distinct


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9])
def test_dropped_inputs_leave_all_targets_to_the_last_kept_position(ratio: float) -> None:
    for _ in range(20):
        shortened, last_kept = sequence_dropout(ITEM_SEQ, LENGTH, ratio)
        assert shortened.dtype == torch.int64
        for row, length in enumerate(LENGTH.tolist()):
            survivors = shortened[row].tolist()
            assert survivors[0] == ITEM_SEQ[row, 0], "the first item is always kept"
            remaining: list[int] = []
            for time in range(length):
                if int(ITEM_SEQ[row, time]) in survivors:
                    remaining.append(int(ITEM_SEQ[row, time]))
                position = int(last_kept[row, time])
                assert position == len(remaining) - 1
                assert shortened[row, : position + 1].tolist() == remaining, "order kept, nothing after time t"
            rest = shortened[row, len(remaining) :]
            assert (rest == 0).all(), "the rest of the row is padding"
        assert (shortened != 0).any(dim=0).all(), "no column is padding only"


def test_ratio_0_is_the_identity() -> None:
    shortened, last_kept = sequence_dropout(ITEM_SEQ, LENGTH, 0.0)
    assert torch.equal(shortened, ITEM_SEQ)
    for row, length in enumerate(LENGTH.tolist()):
        assert last_kept[row, :length].tolist() == list(range(length))


def test_items_are_dropped_at_the_rate_of_the_ratio() -> None:
    """20,000 draws: three standard deviations are below 0.01."""
    item_seq = torch.ones(400, 51, dtype=torch.int64)
    _, last_kept = sequence_dropout(item_seq, torch.full((400,), 51), 0.3)
    dropped = (last_kept.diff(dim=1) == 0).float()  # a dropped item does not move on
    assert dropped.mean().item() == pytest.approx(0.3, abs=0.01)
    assert dropped.mean(dim=0).min().item() > 0.2, "every position is dropped"


def modality_sequences(n_rows: int, length: int) -> tuple[Tensor, Tensor]:
    text = torch.arange(1.0, n_rows * length * 3 + 1).view(n_rows, length, 3)
    return text, -text


def test_mixup_puts_either_modality_into_one_sequence_and_the_other_into_its_complement() -> None:
    text, image = modality_sequences(40, 30)
    mixed_text, mixed_image = complementary_mixup(text, image, torch.full((40, 30), 0.5))
    swapped = (mixed_text == image).all(dim=-1)
    assert torch.equal(swapped, (mixed_text < 0).any(dim=-1)), "whole embeddings are swapped"
    assert torch.equal(mixed_text, torch.where(swapped[..., None], image, text))
    assert torch.equal(mixed_image, torch.where(swapped[..., None], text, image))
    assert not (swapped == swapped[:, :1]).all(), "items of a sequence swap one by one"


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_mixup_swaps_at_the_rate_p_at_every_position(p: float) -> None:
    text, image = modality_sequences(2000, 10)
    swapped = (complementary_mixup(text, image, torch.full((2000, 10), p))[0] < 0)[..., 0]
    assert swapped.float().mean().item() == pytest.approx(p, abs=0.012)
    by_position = swapped.float().mean(dim=0)
    assert (by_position - p).abs().max() < 0.05, "positions swap alike"


def test_mixup_spares_padding_and_does_nothing_at_ratio_0() -> None:
    text, image = modality_sequences(50, 6)
    ratio = torch.full((50, 6), 0.5)
    ratio[:, 4:] = 0
    ratio[7] = 0
    mixed_text, mixed_image = complementary_mixup(text, image, ratio)
    spared = ratio == 0
    assert torch.equal(mixed_text[spared], text[spared])
    assert torch.equal(mixed_image[spared], image[spared])
    assert not torch.equal(mixed_text, text)


def test_mixup_passes_gradient_to_both_modalities() -> None:
    text, image = (tensor.requires_grad_() for tensor in modality_sequences(3, 4))
    mixed_text, mixed_image = complementary_mixup(text, image.detach().requires_grad_(), torch.full((3, 4), 0.5))
    (mixed_text.sum() + mixed_image.sum()).backward()
    assert torch.equal(text.grad, torch.ones_like(text))
