"""Sequence random dropout (III-B 1) and complementary sequence mixup (III-B 3)."""

from __future__ import annotations

import torch
from torch import Tensor


def sequence_dropout(item_seq: Tensor, item_length: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Drop input items with probability ρ; keep the rest in order, left-aligned.

    The first item of a row is always kept. No target is lost: the target at time t is predicted from the last kept
    position up to t, which ``last_kept`` names.

    Args:
        item_seq: int64 ``[U, L]``, left-aligned, 0 where padded.
        item_length: int64 ``[U]``.
        ratio: ρ in [0, 1).

    Returns:
        - the shortened sequences, int64 ``[U, L']`` with L' <= L,
        - ``last_kept``, int64 ``[U, L]``: index in the shortened row of the last kept position at or before t.
    """
    position = torch.arange(item_seq.size(1), device=item_seq.device)
    valid = position < item_length.unsqueeze(1)  # [U, L]
    kept = (torch.rand(item_seq.shape, device=item_seq.device) >= ratio) & valid
    kept[:, 0] = valid[:, 0]
    last_kept = kept.long().cumsum(dim=1).sub_(1).clamp_(min=0)  # [U, L]
    longest = int(last_kept[:, -1].max()) + 1
    shortened = item_seq.new_zeros(item_seq.size(0), longest)
    row, column = kept.nonzero(as_tuple=True)
    shortened[row, last_kept[row, column]] = item_seq[row, column]
    return shortened, last_kept


def is_first_of_its_representation(row: Tensor, position: Tensor) -> Tensor:
    """Which pairs are the first with their sequence representation: after a dropped item, several pairs share one.

    Args:
        row, position: of the representation of every pair, in order; int64 ``[P]`` each.

    Returns:
        Bool ``[P]``.
    """
    is_first = torch.ones_like(row, dtype=torch.bool)
    is_first[1:] = (row[1:] != row[:-1]) | (position[1:] != position[:-1])
    return is_first


def complementary_mixup(text: Tensor, image: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Swap the two modalities' embeddings of an item with probability p, in both sequences at once.

    Args:
        text: Z^t, float ``[U, L, d0]``.
        image: Z^v, float ``[U, L, d0]``.
        ratio: p of every position, float ``[U, L]``: a sequence's p, within [0, 0.5] so that the sequence keeps its own
            modality's mark, and 0 at padding, which never swaps.

    Returns:
        M^t and M^v, float ``[U, L, d0]``: at every position one holds the text, the other the image embedding.
    """
    swap = (torch.rand(ratio.shape, device=text.device) < ratio).unsqueeze(-1)  # [U, L, 1]
    return torch.where(swap, image, text), torch.where(swap, text, image)
