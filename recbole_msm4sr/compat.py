"""Every work-around for RecBole 1.2.1, one function each. ``apply`` installs them; it may be called again.

They let RecBole run on torch >= 2.6, numpy 2, pandas 3 and SciPy >= 1.13 without changing its results, and replace its
reading and filtering of data by ours, which refuse or name what RecBole misreads or drops.
"""

from __future__ import annotations

import copy
import warnings
from collections import UserDict
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.evaluator.collector import Collector, DataStruct
from recbole.utils import FeatureType
from scipy import sparse

from recbole_msm4sr.data import filtering, processing


def apply() -> None:
    """Install every work-around."""
    restore_numpy_aliases()
    restore_dok_update()
    Dataset._load_feat = processing.load_feat
    Dataset._data_processing = processing.process
    Dataset._filter_by_field_value = filtering.filter_by_value
    Dataset._filter_inter_by_user_or_item = filtering.filter_by_attributes
    Dataset._filter_by_inter_num = filtering.filter_by_inter_num
    Dataset._fill_nan = fill_nan
    Dataset._remap = remap
    Collector.get_data_struct = get_data_struct
    silence_warnings()


def restore_numpy_aliases() -> None:
    """numpy 2 dropped names that RecBole's ``Config.compatibility_settings`` reads (RecBole pull request #2203)."""
    for name, value in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
        if not hasattr(np, name):
            setattr(np, name, value)


def restore_dok_update() -> None:
    """SciPy 1.13 dropped ``dok_matrix._update``, with which RecBole's graph models fill their adjacency matrix.

    RecBole issue #2034 (LightGCN, NGCF, SpectralCF, ...).
    """
    if not hasattr(sparse.dok_matrix, "_update"):

        def _update(self: sparse.dok_matrix, entries: dict[tuple[int, int], float]) -> None:
            self._dict.update(entries)

        sparse.dok_matrix._update = _update


def fill_nan(self: Dataset) -> None:
    """``Dataset._fill_nan`` without its chained ``fillna(inplace=True)``, a no-op in pandas 3."""
    for feat_name in self.feat_name_list:
        feat = getattr(self, feat_name)
        for field in feat:
            kind = self.field2type[field]
            if kind in (FeatureType.TOKEN, FeatureType.FLOAT):
                if feat[field].hasnans:
                    feat[field] = feat[field].fillna(0 if kind == FeatureType.TOKEN else feat[field].mean())
            else:
                dtype = np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64
                empty = np.array([], dtype=dtype)
                feat[field] = pd.Series([empty if isinstance(x, float) else x for x in feat[field]], dtype=object)


class TokenIds(UserDict):
    """A field's ``field2token_id``, token to id, made when it is first asked for: it is large and seldom needed."""

    def __init__(self, tokens: np.ndarray) -> None:
        self.tokens = tokens

    @cached_property
    def data(self) -> dict[str, int]:  # type: ignore[override]
        return {token: i for i, token in enumerate(self.tokens.tolist())}


def remap(self: Dataset, remap_list: list[tuple[pd.DataFrame, str, FeatureType]]) -> None:
    """``Dataset._remap`` without ``Series.agg`` on columns of arrays, where pandas 3 passes the column as a whole.

    Tokens are numbered in a column first, then across columns, so that a categorical's codes can stand for its tokens.
    """
    if not remap_list:
        return
    columns = [
        pd.factorize(feat[field] if kind == FeatureType.TOKEN else np.concatenate(list(feat[field])))
        for feat, field, kind in remap_list
    ]
    distinct = [np.asarray(tokens, dtype=object) for _, tokens in columns]
    if len(distinct) == 1:
        number, tokens = np.arange(len(distinct[0])), distinct[0]
    else:
        number, tokens = pd.factorize(np.concatenate(distinct))
    tokens = np.array(["[PAD]", *tokens])
    token_ids = TokenIds(tokens)
    numbers = _split(number + 1, distinct)
    for (codes, _), ids, (feat, field, kind) in zip(columns, numbers, remap_list, strict=True):
        self.field2id_token.setdefault(field, tokens)
        self.field2token_id.setdefault(field, token_ids)
        new_ids = np.append(ids, 0)[codes]  # code -1, a missing value, is padding
        feat[field] = new_ids if kind == FeatureType.TOKEN else pd.Series(_split(new_ids, feat[field]), feat.index)


def _split(flat: np.ndarray, like: Iterable[Any]) -> list[np.ndarray]:
    """Cut ``flat`` into parts as long as those of ``like``."""
    return np.split(flat, np.cumsum([len(part) for part in like])[:-1])


def get_data_struct(self: Collector) -> DataStruct:
    """``Collector.get_data_struct`` for metrics that need counts, which are not tensors, too (GiniIndex, ...)."""
    data = self.data_struct._data_dict
    data.update({key: value.cpu() for key, value in data.items() if isinstance(value, torch.Tensor)})
    collected = copy.deepcopy(self.data_struct)
    for key in ("rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label"):
        data.pop(key, None)
    return collected


def silence_warnings() -> None:
    """Silence warnings that RecBole's code causes in newer libraries on every run and that no user can prevent."""
    # a torch.cuda.amp.GradScaler every epoch, deprecated since torch 2.4
    warnings.filterwarnings("ignore", message=r".*torch\.cuda\.amp\.GradScaler.*", category=FutureWarning)
    # torch.sparse.FloatTensor, with which its graph models (LightGCN, NGCF, ...) make their adjacency matrix
    warnings.filterwarnings("ignore", message=r"torch\.sparse\.SparseTensor\(.*is deprecated", category=UserWarning)
    # tensors made of pandas 3's read-only columns; RecBole never writes to them
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
