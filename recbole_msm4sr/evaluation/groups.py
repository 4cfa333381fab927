"""Groups of users: by the length of their history (figure 4), and by how often training has seen their target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLD = 10  # training interactions below which table V calls an item cold
N_HISTORY_GROUPS = 5


def by_history(history_length: NDArray[Any]) -> pd.Categorical:
    """Groups of about equal size by the length of the history before the target, shortest first.

    Users of one length are in one group, so a data set with few lengths gives fewer groups.

    Args:
        history_length: of every user, int ``[N]``.

    Returns:
        Every user's group, ``[N]``: ``history 5-7``.
    """
    shares = np.arange(1, N_HISTORY_GROUPS) / N_HISTORY_GROUPS
    quantiles = np.quantile(history_length, shares, method="higher")
    highest = np.unique([*quantiles.astype(int), history_length.max()])
    lowest = [history_length.min(), *(highest[:-1] + 1)]
    names = [
        f"history {low}-{high}" if low < high else f"history {high}" for low, high in zip(lowest, highest, strict=True)
    ]
    return pd.Categorical.from_codes(np.searchsorted(highest, history_length), names)


def by_warmth(target_count: NDArray[Any]) -> pd.Categorical:
    """Whether a user's target has fewer than ``COLD`` training interactions, or as many at least; ``[N]``."""
    names = [f"target < {COLD} times", f"target >= {COLD} times"]
    return pd.Categorical.from_codes((target_count >= COLD).astype(int), names)
