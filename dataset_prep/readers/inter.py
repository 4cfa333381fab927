"""The items of RecBole's atomic file of interactions."""

from __future__ import annotations

import os

import numpy as np

from recbole_msm4sr.data.reader import read_header, read_table

_NAMES = ("user_id", "item_id")


def item_counts(path: str | os.PathLike[str]) -> tuple[int, dict[str, int]]:
    """Number of users, and how often each item occurs, items in the order of their first appearance.

    A line without a user or an item is not counted: training leaves it out, too.

    Raises:
        UserError: the file cannot be read, or has no columns ``user_id:token`` and ``item_id:token``
            (:mod:`recbole_msm4sr.data.reader`).
    """
    read_header(path, dict.fromkeys(_NAMES, "token"))
    columns = read_table(path, _NAMES, names=_NAMES).columns
    users, items = (columns[name] for name in _NAMES)
    counts = np.bincount(items.codes, minlength=len(items.categories)).tolist()
    return len(np.unique(users.codes)), {token: n for token, n in zip(items.categories, counts, strict=True) if n}


def interaction_items(path: str | os.PathLike[str]) -> list[str]:
    """The items of a file of interactions, each once, in the order of their first appearance; as ``item_counts``."""
    return list(item_counts(path)[1])
