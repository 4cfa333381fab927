"""Metrics of groups of users: by the length of their history (figure 4), by how often their target was trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recbole_msm4sr.evaluation.user_ranks import UserRanks

COLD = 10  # training interactions below which table V calls an item cold
N_HISTORY_GROUPS = 5


def by_history(ranks: UserRanks, n_groups: int = N_HISTORY_GROUPS) -> dict[str, NDArray[np.bool_]]:
    """Groups of about equal size by the length of the history before the target, shortest first.

    Users of one length are never parted, so a data set with few lengths gives fewer groups.

    Returns:
        Name (``history 5-7``) to a mask, bool ``[N]``; every user is in exactly one.
    """
    quantiles = np.quantile(ranks.history_length, np.arange(1, n_groups) / n_groups, method="higher")
    edges = [*np.unique(quantiles).tolist(), int(ranks.history_length.max())]
    groups, lower = {}, int(ranks.history_length.min())
    for upper in map(int, edges):
        mask = (ranks.history_length >= lower) & (ranks.history_length <= upper)
        if mask.any():
            groups[f"history {lower}-{upper}" if lower < upper else f"history {upper}"] = mask
        lower = upper + 1
    return groups


def by_warmth(ranks: UserRanks, threshold: int = COLD) -> dict[str, NDArray[np.bool_]]:
    """Users whose target has fewer than ``threshold`` training interactions, and the others; empty groups left out."""
    cold = ranks.target_count < threshold
    groups = {f"target < {threshold} times": cold, f"target >= {threshold} times": ~cold}
    return {name: mask for name, mask in groups.items() if mask.any()}
