"""Every work-around for RecBole 1.2.1, one function each. ``apply`` installs them; it may be called again.

They let RecBole run on torch >= 2.6, numpy 2, pandas 3 and SciPy >= 1.13 without changing its results.
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
from recbole.utils import FeatureSource, FeatureType
from scipy import sparse

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.atomic_file import find_bad_number, find_short_line, read_header


def apply() -> None:
    """Install every work-around."""
    restore_numpy_aliases()
    restore_dok_update()
    Dataset._load_feat = load_feat
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


def load_feat(self: Dataset, filepath: str, source: Any) -> pd.DataFrame | None:
    """``Dataset._load_feat`` without its chained ``fillna(inplace=True)``, a no-op in pandas 3.

    The same frame, read by pandas' C parser instead of its Python one.

    Raises:
        UserError: a line lacks cells or has text where a number should be, or the encoding is another.
    """
    columns = columns_to_load(self, filepath, source)
    types = {field: kind for field, kind in columns if kind is not None}
    if not types:
        return None
    separator, encoding = self.config["field_separator"], self.config["encoding"]
    try:
        frame = pd.read_csv(
            filepath,
            delimiter=separator,
            usecols=[f"{field}:{kind.value}" for field, kind in types.items()],
            dtype={
                f"{f}:{kind.value}": np.float64 if kind == FeatureType.FLOAT else object for f, kind in types.items()
            },
            encoding=encoding,
            engine="c" if len(separator) == 1 else "python",
            float_precision="high" if len(separator) == 1 else None,
        )
        frame.columns = list(types)
        lacks_cells = frame.iloc[:, -1].isna().any()  # as it does where a line ends early
        for field, kind in types.items():
            if kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ):
                frame[field] = _read_sequences(self, field, frame[field], kind)
    except UnicodeDecodeError as error:
        raise UserError(f"{filepath} is not {encoding or 'utf-8'} ({error}): set encoding to the file's") from error
    except ValueError as error:
        within = {FeatureType.FLOAT: None, FeatureType.FLOAT_SEQ: self.config["seq_separator"]}
        numbers = {i: (field, within[kind]) for i, (field, kind) in enumerate(columns) if kind in within}
        fault = find_bad_number(filepath, separator, encoding, numbers)
        raise UserError(fault or f"{filepath}: {' '.join(str(error).split())}") from error
    if lacks_cells and (fault := find_short_line(filepath, separator, encoding)):
        raise UserError(fault)
    return frame


def columns_to_load(self: Dataset, filepath: str, source: Any) -> list[tuple[str, FeatureType | None]]:
    """Field and type of every column of a file, ``None`` where it is not to be loaded; notes the fields' properties.

    The first half of RecBole's ``Dataset._load_feat``.
    """
    load_col, unload_col = self._get_load_and_unload_col(source)
    if load_col == set():
        return []
    columns: list[tuple[str, FeatureType | None]] = []
    for column in read_header(filepath, self.config["field_separator"], self.config["encoding"]):
        field, _, kind = column.partition(":")
        if kind not in {member.value for member in FeatureType}:
            raise ValueError(f"Type {kind} from field {field} is not supported.")
        loaded = (load_col is None or field in load_col) and field not in (unload_col or ())
        columns.append((field, FeatureType(kind) if loaded else None))
    types = {field: kind for field, kind in columns if kind is not None}
    if not types:
        self.logger.warning(f"No columns has been loaded from [{source}]")
    if isinstance(source, FeatureSource) or source != "link":
        for field, kind in types.items():
            self.field2source[field], self.field2type[field] = source, kind
            if kind in (FeatureType.TOKEN, FeatureType.FLOAT):
                self.field2seqlen[field] = 1
            if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                self.field2bucketnum[field] = 2
    return columns


def _read_sequences(self: Dataset, field: str, column: pd.Series, kind: FeatureType) -> pd.Series:
    """Split a sequence column into arrays, cut to ``seq_len``, and note their longest length."""
    rows = [list(filter(None, text.split(self.config["seq_separator"]))) for text in column.fillna("")]
    limit = (self.config["seq_len"] or {}).get(field)
    longest = max(map(len, rows), default=0)
    self.field2seqlen[field] = longest if limit is None else min(limit, longest)
    arrays = [
        np.array(row[:limit] if kind == FeatureType.TOKEN_SEQ else [float(x) for x in row[:limit]]) for row in rows
    ]
    return pd.Series(arrays, index=column.index, dtype=object)


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
    """``Dataset._remap`` without ``Series.agg`` on columns of arrays, which pandas 3 hands the column as a whole.

    Tokens are numbered in a column first, then across columns, so that the codes of a categorical do for its tokens.
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
    """``Collector.get_data_struct`` for metrics that need counts, which are no tensors, too (GiniIndex, ...)."""
    data = self.data_struct._data_dict
    data.update({key: value.cpu() for key, value in data.items() if isinstance(value, torch.Tensor)})
    collected = copy.deepcopy(self.data_struct)
    for key in ("rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label"):
        data.pop(key, None)
    return collected


def silence_warnings() -> None:
    """Silence what RecBole's code makes newer libraries say on every run, and no user can mend."""
    # a torch.cuda.amp.GradScaler every epoch, deprecated since torch 2.4
    warnings.filterwarnings("ignore", message=r".*torch\.cuda\.amp\.GradScaler.*", category=FutureWarning)
    # torch.sparse.FloatTensor, with which its graph models (LightGCN, NGCF, ...) make their adjacency matrix
    warnings.filterwarnings("ignore", message=r"torch\.sparse\.SparseTensor\(.*is deprecated", category=UserWarning)
    # tensors made of pandas 3's read-only columns; RecBole never writes to them
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
