"""Contrastive pre-training losses (paper, III-C).

Both losses take unnormalised vectors, compare them by cosine, average over the batch, and are computed in log space
and in float32 or better; under autocast, only the matrix products of their gradients are in its dtype. A pair whose
target is the same item as j's is not a negative for j: it leaves j's denominator. A pair whose target lacks the
modality leaves the loss altogether.

Candidates may be more than the rows of the loss: those of other processes, appended to a process's own. The mean is
then over the rows of all processes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_msm4sr.core.gather import global_mean
from recbole_msm4sr.core.precision import product_dtype
from recbole_msm4sr.model.kernels.logsumexp import logsumexp_of_products


def nip_loss(
    direct: Tensor,
    crossed: Tensor,
    item_emb: Tensor,
    item_ids: Tensor,
    temperature: float,
    has_content: Tensor | None = None,
) -> Tensor:
    """Modality-specific next item prediction in one modality's space (eq. 7 and 8).

    Args:
        direct: m̂, the sequence dominated by this modality, mapped to its space; float ``[B, d0]``.
        crossed: m̃, the complementary sequence mapped to the same space; float ``[B, d0]``.
        item_emb: z, the candidates' embeddings in this modality; float ``[C, d0]``, C >= B. The first B are the
            targets of the B sequences.
        item_ids: the candidates' ids; int64 ``[C]``. Equal ids mask each other, so that items of the same content can
            be given the same id.
        temperature: τ > 0.
        has_content: whether a candidate has this modality; bool ``[C]``, by default all have. One that has not is
            neither a negative nor a target: all such items have one embedding, and nothing could tell them apart.

    Returns:
        Scalar mean, over the sequences whose target has the modality, of
        ``-log((f(m̂_j, z_j) + f(m̃_j, z_j)) / Σ_j' [f(m̂_j, z_j') + f(m̃_j, z_j')])``.
    """
    gradient_dtype = product_dtype(_exact(direct))
    with torch.autocast(direct.device.type, enabled=False):
        n_rows = len(direct)
        views = _normalised(torch.cat([direct, crossed]))  # [2B, d0]
        items = _normalised(item_emb) / temperature  # [C, d0]
        positive = (views * items[:n_rows].repeat(2, 1)).sum(dim=1)  # [2B]
        excluded = _excluded(item_ids, n_rows, has_content).fill_diagonal_(False)  # [B, C]: j itself stays
        candidates = logsumexp_of_products(views, items, excluded.repeat(2, 1), gradient_dtype)  # [2B]
        losses = torch.logaddexp(*candidates.view(2, n_rows)) - torch.logaddexp(*positive.view(2, n_rows))  # [B]
        return _mean(losses, has_content)


def cmcl_loss(
    direct: Tensor,
    crossed: Tensor,
    item_ids: Tensor,
    temperature: float,
    n_anchors: int | None = None,
    has_content: Tensor | None = None,
) -> Tensor:
    """Symmetric cross-modality contrastive loss in one modality's space (eq. 9 and 10).

    Args:
        direct: m̂, float ``[C, d0]``.
        crossed: m̃, the complementary sequence mapped to the same space; float ``[C, d0]``.
        item_ids: the targets' ids; int64 ``[C]``. Equal ids mask each other.
        temperature: τ > 0.
        n_anchors: the first B rows have a loss; the others are their negatives only. Default: all.
        has_content: whether a target has all modalities; bool ``[C]``, by default all have. The rows of one that
            has not are left out, as anchors and as negatives.

    Returns:
        Scalar mean of ``-(ℓ(m̂_j, m̃_j) + ℓ(m̃_j, m̂_j)) / 2``; negatives come from both sequences of the batch.
    """
    n_anchors = len(direct) if n_anchors is None else n_anchors
    gradient_dtype = product_dtype(_exact(direct))
    with torch.autocast(direct.device.type, enabled=False):
        direct, crossed = _normalised(direct), _normalised(crossed)
        within = _excluded(item_ids, n_anchors, has_content)  # [B, C]; within a view j itself is not a candidate
        between = within.clone().fill_diagonal_(False)  # between the views j's own partner is the positive
        excluded = torch.cat([between, within], dim=1)  # [B, 2C]
        positive = (direct[:n_anchors] * crossed[:n_anchors]).sum(dim=1) / temperature  # [B]
        losses = [
            logsumexp_of_products(view[:n_anchors] / temperature, torch.cat([other, view]), excluded, gradient_dtype)
            - positive
            for view, other in ((direct, crossed), (crossed, direct))
        ]
        return _mean(0.5 * (losses[0] + losses[1]), has_content)


def _normalised(vectors: Tensor) -> Tensor:
    return F.normalize(_exact(vectors), dim=-1)


def _exact(vectors: Tensor) -> Tensor:
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))


def _excluded(item_ids: Tensor, n_anchors: int, has_content: Tensor | None) -> Tensor:
    """Who is not a negative of whom: the same item, and items without content; bool ``[B, C]``."""
    same_item = item_ids[:n_anchors].unsqueeze(1) == item_ids.unsqueeze(0)
    return same_item if has_content is None else same_item | ~has_content


def _mean(losses: Tensor, has_content: Tensor | None) -> Tensor:
    """Mean of float ``[B]`` over those that have content."""
    if has_content is None:
        return global_mean(losses.sum(), len(losses))
    counted = has_content[: len(losses)]
    return global_mean((losses * counted).sum(), counted.sum())
