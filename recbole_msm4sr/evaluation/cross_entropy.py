"""How well a model predicts the targets of a part of the split, in the terms of its training loss (eq. 13)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from recbole_msm4sr.core.gather import sum_over_ranks
from recbole_msm4sr.evaluation.ranking import encoded_users
from recbole_msm4sr.model.base import PackedSequentialRecommender


@torch.no_grad()
def mean_cross_entropy(model: PackedSequentialRecommender, part: Any, *, scores_at_once: int = 1 << 22) -> float:
    """Mean over a part's rows of ``-log softmax(scores of all items)[target]``, in nats; padding is not scored.

    Under torchrun the rows are dealt to the processes, and every process returns the mean of all.

    Args:
        model: is set to evaluation mode: there is no dropout.
        part: a part of the split of a ``MultimodalSequentialDataset``.
        scores_at_once: most scores that are held at a time.
    """
    model.eval()
    items = model.item_vectors()[1:]  # [n, k]
    total = torch.zeros((), dtype=torch.float64, device=items.device)
    n_scored = max(1, scores_at_once // len(items))
    for _, users, target in encoded_users(model, part):
        for some, wanted in zip(users.split(n_scored), (target - 1).split(n_scored), strict=True):
            total += F.cross_entropy(some @ items.T, wanted, reduction="sum")
    return sum_over_ranks(total).item() / len(part)
