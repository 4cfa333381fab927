"""How well a model predicts the targets of a part of the split, in the terms of its training loss (eq. 13)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from recbole_msm4sr.data.dataset import SequenceInteraction
from recbole_msm4sr.model import parallel
from recbole_msm4sr.model.base import PackedSequentialRecommender

_USERS_AT_ONCE = 1024
#: Scores held at a time.
_SCORES_AT_ONCE = 1 << 22


@torch.no_grad()
def mean_cross_entropy(model: PackedSequentialRecommender, part: Any) -> float:
    """Mean over a part's rows of ``-log softmax(scores of all items)[target]``, in nats; padding is no item.

    Under torchrun the rows are dealt to the processes, and every process returns the mean of all.

    Args:
        model: is set to evaluation mode: there is no dropout.
        part: a part of the split of a ``MultimodalSequentialDataset``.
    """
    model.eval()
    rows: SequenceInteraction = part.inter_feat
    item_of = rows.flat[part.iid_field]
    items = model.item_vectors()[1:]  # [n, k]
    total = torch.zeros((), dtype=torch.float64, device=items.device)
    blocks = (rows.target - rows.start).argsort(stable=True).split(_USERS_AT_ONCE)  # of similar length
    for block in parallel.own_share(blocks):
        taken = rows.take(block)
        history = {name: taken[name].to(items.device) for name in (model.ITEM_SEQ, model.ITEM_SEQ_LEN)}
        target = item_of[taken.target].to(items.device) - 1
        n_scored = max(1, _SCORES_AT_ONCE // len(items))
        for users, wanted in zip(model.user_vectors(history).split(n_scored), target.split(n_scored), strict=True):
            total += F.cross_entropy(users @ items.T, wanted, reduction="sum")
    return parallel.sum_over_ranks(total).item() / len(rows)
