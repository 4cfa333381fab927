"""RecBole's filters of interactions, on whole arrays; each says what it leaves out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_msm4sr.core.errors import UserError

#: Opening bracket, lower end, upper end, closing bracket.
Interval = tuple[str, float, float, str]


def note(dataset: Any, text: str) -> None:
    """Keep a line for the log of the run, which is opened after the data has been read."""
    dataset.notes = [*getattr(dataset, "notes", []), text]


def parse_intervals(text: Any, key: str) -> list[Interval] | None:
    """Read ``[5,inf)`` or ``[2,4];(7,9)``; ``None`` stays ``None``.

    Args:
        text: the setting's value; YAML has made a list of ``[2,4]``.
        key: its name, for the message.

    Raises:
        UserError: it is not such an interval, or nothing lies in it.
    """
    if text is None:
        return None
    intervals = []
    for part in str(text).split(";"):
        part = part.strip()
        ends = part[1:-1].split(",")
        try:
            low, high = map(float, ends)
        except ValueError:
            low, high = math.nan, math.nan
        is_closed = part[:1] == "[" and part[-1:] == "]"
        if part[:1] not in ("[", "(") or part[-1:] not in ("]", ")") or not (low < high or (low == high and is_closed)):
            raise UserError(
                f"{key} must be an interval such as [5,inf) or [2,4], or several between semicolons, the lower end "
                f"first; it is {text!r}"
            )
        intervals.append((part[0], low, high, part[-1]))
    return intervals


def filter_by_value(dataset: Any) -> None:
    """``Dataset._filter_by_field_value``, for ``val_interval``; a mistake in it is one clear line.

    Raises:
        UserError: a column is not read, or what it may hold is not given as its type needs it.
    """
    for field, allowed in (dataset.config["val_interval"] or {}).items():
        key = f"val_interval of {field}"
        kind = dataset.field2type.get(field)
        if kind is None or kind.value.endswith("_seq"):
            columns = ", ".join(name for name, kind in dataset.field2type.items() if not kind.value.endswith("_seq"))
            raise UserError(f"{key}: no such column of tokens or numbers is read; these are: {columns} (see load_col)")
        intervals = parse_intervals(allowed, key) if kind.value == "float" else None
        if intervals is None and not isinstance(allowed, (list, tuple)):
            raise UserError(f"{key} must be a list of tokens, such as [a, b]; it is {allowed!r}")
        for feat in dataset.field2feats(field):
            column = feat[field]
            is_in = dataset._within_intervals(column.to_numpy(), intervals) if intervals else column.isin(allowed)
            kept = np.asarray(is_in)
            if not kept.all():
                note(dataset, f"val_interval: {np.sum(~kept):,} of {len(feat):,} rows are left out by {field}")
                feat.drop(feat.index[~kept], inplace=True)


def filter_by_attributes(dataset: Any) -> None:
    """``Dataset._filter_inter_by_user_or_item``: interactions of users or items that have no attributes go.

    With ``filter_inter_by_user_or_item`` and where a .user or .item file is read.
    """
    if dataset.config["filter_inter_by_user_or_item"] is not True:
        return
    for name, field in (("user", dataset.uid_field), ("item", dataset.iid_field)):
        attributes, tokens = getattr(dataset, f"{name}_feat"), dataset.inter_feat[field]
        if attributes is None:
            continue
        known = tokens.isin(attributes[field])
        if not known.all():
            note(
                dataset,
                f"{np.sum(~known):,} of {len(known):,} interactions are left out: {tokens[~known].nunique():,} of "
                f"{tokens.nunique():,} {name}s are not in {dataset.dataset_name}.{name} "
                "(filter_inter_by_user_or_item: false keeps them)",
            )
            dataset.inter_feat = dataset.inter_feat[known]


def filter_by_inter_num(dataset: Any) -> None:
    """``Dataset._filter_by_inter_num`` without its loops over interactions, users and items; the same rows stay.

    Users and items with too few or too many interactions are dropped, with their interactions and attributes, until
    none is left to drop.

    Args:
        dataset: RecBole's data set while its tables are frames of tokens; ``inter_feat``, ``user_feat`` and
            ``item_feat`` are replaced. Reads user_inter_num_interval and item_inter_num_interval.

    Raises:
        UserError: an interval cannot be read.
    """
    sides = []
    for name, field in (("user", dataset.uid_field), ("item", dataset.iid_field)):
        key = f"{name}_inter_num_interval"
        intervals = parse_intervals(dataset.config[key], key)
        if intervals and any(low > 0 or high < math.inf for _, low, high, _ in intervals):
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
        note(
            dataset,
            f"{np.sum(~kept):,} of {len(kept):,} interactions are left out: their users or items have too few or too "
            "many (user_inter_num_interval, item_inter_num_interval)",
        )
        dataset.inter_feat = dataset.inter_feat[kept].reset_index(drop=True)
    if dataset.inter_feat.empty:
        reasons = "; ".join(getattr(dataset, "notes", [])) or "the file has none"
        raise UserError(f"data set {dataset.config['data_path']}: no interactions are left: {reasons}")


class _Side:
    """The users, or the items, of the interactions, and how many interactions they may have."""

    def __init__(self, dataset: Any, feat: str, field: str, intervals: list[Interval]) -> None:
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
