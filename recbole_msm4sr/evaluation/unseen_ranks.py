"""Where targets rank among the items that their users have not met.

RecBole leaves a user's earlier items out of the ranking for general models, and ranks them for sequential ones. Where
users never come back to an item, a sequential model that puts the last item first loses a place for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SCORES_AT_ONCE = 2**25


@torch.no_grad()
def unseen_ranks(
    score: Callable[[Any], Tensor], eval_data: Any, dataset: Any, users: NDArray[np.int64], items: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rank of every user's target among the items that the user has no other interaction with, padding excluded.

    Args:
        score: gives the scores of all items, float ``[B, n_items]``, for a batch of rows.
        eval_data: a full-ranking loader of a sequential model.
        dataset: the whole data set.
        users: of the loader's rows, in its order; ``[N]``.
        items: their targets, ``[N]``.

    Returns:
        int64 ``[N]``, from 1; a tie goes to the smaller id.
    """
    history = History(dataset)
    ranks = np.empty(len(users), dtype=np.int64)
    begin = 0
    for interaction, *_ in eval_data:
        size = max(1, _SCORES_AT_ONCE // dataset.item_num)
        for first in range(0, len(interaction), size):
            scores = score(interaction[first : first + size])
            end = begin + len(scores)
            target = torch.from_numpy(items[begin:end]).to(scores.device).unsqueeze(1)  # [B, 1]
            own = scores.gather(1, target)
            row, item = history.of(users[begin:end])
            scores[row, item] = -torch.inf
            scores[:, 0] = -torch.inf
            is_smaller = torch.arange(dataset.item_num, device=scores.device) < target
            # the target itself is neither above its score nor of a smaller id, masked or not
            before = (scores > own) | ((scores == own) & is_smaller)
            ranks[begin:end] = before.sum(dim=1).cpu().numpy() + 1
            begin = end
    return ranks


class History:
    """All items that users have interacted with."""

    def __init__(self, dataset: Any) -> None:
        feat = getattr(dataset.inter_feat, "flat", dataset.inter_feat)
        users = feat[dataset.uid_field].numpy()
        self.items = feat[dataset.iid_field].numpy()[users.argsort(kind="stable")]
        self.start = np.concatenate([[0], np.bincount(users, minlength=dataset.user_num).cumsum()])

    def of(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row of ``users`` and item, int64 ``[P]`` each, of all interactions of these users."""
        count = self.start[users + 1] - self.start[users]
        row = np.repeat(np.arange(len(users)), count)
        within = np.arange(len(row)) - np.repeat(count.cumsum() - count, count)
        return row, self.items[self.start[users][row] + within]
