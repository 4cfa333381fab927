"""From atomic files to RecBole's tables, for its data sets and ours alike: ``compat`` puts these into its Dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from recbole.utils import FeatureSource, FeatureType

from recbole_msm4sr.data import sequences
from recbole_msm4sr.data.dataset import VectorisedSequentialDataset, note_swapped
from recbole_msm4sr.data.filtering import note
from recbole_msm4sr.data.reader import Format, read_header, read_table


def file_format(config: Any) -> Format:
    """How the atomic files of a configuration are written."""
    return Format(config["field_separator"], config["encoding"] or "utf-8", config["seq_separator"])


def load_feat(self: Any, filepath: str, source: Any) -> pd.DataFrame | None:
    """``Dataset._load_feat`` with this package's reader, and without a chained ``fillna``, a no-op in pandas 3.

    Raises:
        UserError: the file cannot be read as it was meant (``reader``).
    """
    load_col, unload_col = self._get_load_and_unload_col(source)
    if load_col == set():
        return None
    form = file_format(self.config)
    header = read_header(filepath, form=form)
    fields = [field for field in header if (load_col is None or field in load_col) and field not in (unload_col or ())]
    if not fields:
        self.logger.warning(f"No columns has been loaded from [{source}]")
        return None
    is_interactions = source == FeatureSource.INTERACTION
    names = {
        FeatureSource.INTERACTION: (self.uid_field, self.iid_field),
        FeatureSource.USER: (self.uid_field,),
        FeatureSource.ITEM: (self.iid_field,),
    }.get(source, ())
    table = read_table(filepath, fields, names=names, complete=[self.time_field] if is_interactions else (), form=form)
    if table.left_out:
        note(self, table.left_out)
    columns: dict[str, Any] = {}
    for field in fields:
        kind, column = FeatureType(header[field]), table.columns[field]
        if isinstance(source, FeatureSource) or source != "link":
            self.field2source[field], self.field2type[field] = source, kind
            if kind in (FeatureType.TOKEN, FeatureType.FLOAT):
                self.field2seqlen[field] = 1
            if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                self.field2bucketnum[field] = 2
        if kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ):
            column = _sequences(self, field, column, kind)
        elif kind == FeatureType.TOKEN and not is_interactions:
            column = column.astype(object)
        columns[field] = column
    frame = pd.DataFrame(columns, copy=False)
    if names and not is_interactions and (n_repeated := int(frame[names[0]].duplicated().sum())):
        note(self, f"{filepath}: {n_repeated:,} lines repeat a {names[0]}; the first line of each counts")
    return frame


def _sequences(self: Any, field: str, rows: list[list[Any]], kind: FeatureType) -> pd.Series:
    """A sequence column as arrays, cut to ``seq_len``, its longest length noted."""
    limit = (self.config["seq_len"] or {}).get(field)
    longest = max(map(len, rows), default=0)
    self.field2seqlen[field] = longest if limit is None else min(limit, longest)
    dtype = np.float64 if kind == FeatureType.FLOAT_SEQ else None  # text: as long as its longest part
    return pd.Series([np.array(row[:limit], dtype=dtype) for row in rows], dtype=object)


def process(self: Any) -> None:
    """``Dataset._data_processing``, with interactions in the order of the times as they were read."""
    self.feat_name_list = self._build_feat_name_list()
    if self.benchmark_filename_list is None:
        self._data_filtering()
    else:
        self.file_of_row = np.repeat(np.arange(len(self.file_size_list)), self.file_size_list)
    self._remap_ID_all()
    if self.config["eval_args"]["order"] == "TO" and self.config["time_precision"] != "float32":
        _order_by_time(self)
    self._user_item_feat_preparation()
    self._fill_nan()
    self._set_label_by_threshold()
    self._normalize()
    self._discretization()
    self._preload_weight_matrix()


def _order_by_time(self: Any) -> None:
    """Put the interactions in the order of their float64 times, ties in the order of the file.

    RecBole's tensors are float32, which cannot tell times of today apart within 128 s. Its sorts are stable: what is
    sorted before keeps its order. Our sequences are made, and sorted, later.
    """
    if self.field2type.get(self.time_field) != FeatureType.FLOAT:
        return
    time = self.inter_feat[self.time_field].to_numpy()
    if isinstance(self, VectorisedSequentialDataset):
        self.times = time
        return
    if self.benchmark_filename_list is not None:  # RecBole splits by place
        return
    by_time = sequences.stable_argsort(time)
    user = self.inter_feat[self.uid_field].to_numpy()
    is_swapped = note_swapped(self, user, time, by_time[sequences.stable_argsort(user[by_time])])
    args = self.config["eval_args"]
    is_split_as_a_whole = "RS" in args["split"] and str(args["group_by"]).lower() == "none"
    if is_swapped or is_split_as_a_whole:  # else RecBole's order of users within 128 s may stay, and its results
        self.inter_feat = self.inter_feat.take(by_time).reset_index(drop=True)
