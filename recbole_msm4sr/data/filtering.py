"""RecBole's filter by number of interactions (k-core and other intervals), on whole arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def filter_by_inter_num(dataset: Any) -> None:
    """``Dataset._filter_by_inter_num`` without its loops over interactions, users and items; the same rows stay.

    Users and items with too few or too many interactions are dropped, with their interactions and attributes, until
    none is left to drop.

    Args:
        dataset: RecBole's data set while its tables are frames of tokens; ``inter_feat``, ``user_feat`` and
            ``item_feat`` are replaced. Reads user_inter_num_interval and item_inter_num_interval.
    """
    sides = []
    for name, field in (("user", dataset.uid_field), ("item", dataset.iid_field)):
        intervals = dataset._parse_intervals_str(dataset.config[f"{name}_inter_num_interval"])
        if field is not None and intervals:
            sides.append(_Side(dataset, f"{name}_feat", field, intervals))
    kept = np.ones(len(dataset.inter_feat), dtype=bool)
    n_kept = -1
    while n_kept != kept.sum():
        n_kept = kept.sum()
        legal = [side.legal(kept) for side in sides]
        for rows in legal:
            kept &= rows
    for side in sides:
        side.drop_attributes()
    if not kept.all():
        dataset.inter_feat = dataset.inter_feat[kept].reset_index(drop=True)


class _Side:
    """The users, or the items, of the interactions, and how many interactions they may have."""

    def __init__(self, dataset: Any, feat: str, field: str, intervals: list[tuple[str, float, float, str]]) -> None:
        self.dataset, self.feat, self.field, self.intervals = dataset, feat, field, intervals
        column = dataset.inter_feat[field].astype("category").cat
        self.codes, self.tokens = column.codes.to_numpy(), column.categories
        self.count = np.zeros(len(self.tokens), dtype=np.int64)
        self.banned = np.zeros(len(self.tokens), dtype=bool)
        attributes = getattr(dataset, feat)
        self.has_attributes = self.banned if attributes is None else self.tokens.isin(attributes[field])
        #: What RecBole asks of those with attributes: the lower end of the first interval.
        self.least = intervals[0][1]

    def legal(self, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether an interaction's user (item) has a legal number of ``kept`` interactions; bool ``[interactions]``."""
        self.count = np.bincount(self.codes[kept], minlength=len(self.tokens))
        illegal = ~self.dataset._within_intervals(self.count, self.intervals)
        illegal |= self.has_attributes & (self.count < self.least)
        illegal &= self.count > 0
        self.banned = self.banned | illegal
        return ~illegal[self.codes]

    def drop_attributes(self) -> None:
        """Drop the attributes of the banned, and of those who have too few interactions, or none."""
        attributes = getattr(self.dataset, self.feat)
        if attributes is None:
            return
        count = attributes[self.field].map(pd.Series(self.count, index=self.tokens)).fillna(0)
        keep = ~attributes[self.field].isin(self.tokens[self.banned]) & (count >= self.least)
        setattr(self.dataset, self.feat, attributes[keep].reset_index(drop=True))
