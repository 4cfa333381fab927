"""Contrastive pre-training losses (paper, III-C).

Both losses take unnormalised vectors, compare them by cosine, average over the batch, and are computed in
log space. A pair whose target is the same item as j's is no negative for j: it leaves j's denominator.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nip_loss(direct: Tensor, crossed: Tensor, item_emb: Tensor, item_ids: Tensor, temperature: float) -> Tensor:
    """Modality-specific next item prediction in one modality's space (eq. 7 and 8).

    Args:
        direct: m̂, the sequence dominated by this modality, mapped to its space; float ``[B, d0]``.
        crossed: m̃, the complementary sequence mapped to the same space; float ``[B, d0]``.
        item_emb: z, the targets' embeddings in this modality; float ``[B, d0]``.
        item_ids: the targets' ids; int64 ``[B]``. Equal ids mask each other.
        temperature: τ > 0.

    Returns:
        Scalar mean of ``-log((f(m̂_j, z_j) + f(m̃_j, z_j)) / Σ_j' [f(m̂_j, z_j') + f(m̃_j, z_j')])``.
    """
    items = F.normalize(item_emb, dim=-1).T / temperature  # [d0, B]
    direct_logits = F.normalize(direct, dim=-1) @ items  # [B, B]
    crossed_logits = F.normalize(crossed, dim=-1) @ items  # [B, B]
    positive = torch.logaddexp(direct_logits.diagonal(), crossed_logits.diagonal())  # [B]
    same_item = _same_item(item_ids).fill_diagonal_(False)  # [B, B]: j itself stays
    candidates = torch.cat([_masked(direct_logits, same_item), _masked(crossed_logits, same_item)], dim=1)  # [B, 2B]
    return (candidates.logsumexp(dim=1) - positive).mean()


def cmcl_loss(direct: Tensor, crossed: Tensor, item_ids: Tensor, temperature: float) -> Tensor:
    """Symmetric cross-modality contrastive loss in one modality's space (eq. 9 and 10).

    Args:
        direct: m̂, float ``[B, d0]``.
        crossed: m̃, the complementary sequence mapped to the same space; float ``[B, d0]``.
        item_ids: the targets' ids; int64 ``[B]``. Equal ids mask each other.
        temperature: τ > 0.

    Returns:
        Scalar mean of ``-(ℓ(m̂_j, m̃_j) + ℓ(m̃_j, m̂_j)) / 2``; negatives come from both sequences of the batch.
    """
    direct, crossed = F.normalize(direct, dim=-1), F.normalize(crossed, dim=-1)
    between = direct @ crossed.T / temperature  # [B, B]
    positive = between.diagonal()  # [B]
    same_item = _same_item(item_ids)
    other_same = same_item.clone().fill_diagonal_(False)  # between the views j's own partner is the positive
    between = _masked(between, other_same)
    losses = []
    for view, cross in ((direct, between), (crossed, between.T)):
        within = _masked(view @ view.T / temperature, same_item)  # [B, B]; within a view j itself is no candidate
        losses.append(torch.cat([cross, within], dim=1).logsumexp(dim=1) - positive)
    return (0.5 * (losses[0] + losses[1])).mean()


def _same_item(item_ids: Tensor) -> Tensor:
    return item_ids.unsqueeze(0) == item_ids.unsqueeze(1)  # [B, B] bool


def _masked(logits: Tensor, mask: Tensor) -> Tensor:
    return logits.masked_fill(mask, float("-inf"))
