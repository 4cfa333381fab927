"""Importers: features as other projects publish them -> a feature store.

Every importer checks the source before it writes anything, keeps the order of items and of an item's rows, and
replaces an earlier store only with ``overwrite``.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.array_pickle import PickledArray, load_array_pickle
from recbole_msm4sr.data.feature_store import FeatureStore

_NPZ_ARRAYS = ("item_id", "offsets", "vectors")
_MOST_DEFLATED = 1100  # bytes that one byte of deflated data can stand for, at most 1,032
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_UNKNOWN = "unknown"


def import_npz(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    encoder: str = _UNKNOWN,
    revision: str | None = None,
    overwrite: bool = False,
) -> FeatureStore:
    """Import an ``.npz`` of ``item_id`` [n] (strings or integers), ``offsets`` [n + 1], ``vectors`` [rows, dim].

    Rows ``offsets[i]:offsets[i + 1]`` of ``vectors`` belong to ``item_id[i]``.

    Raises:
        UserError: the file is missing or damaged, lacks an array, or the arrays do not fit each other.
    """
    path = _existing(source)
    item_id, offsets, vectors = _read_npz(path)
    if item_id.ndim != 1 or item_id.dtype.kind not in "Uiu":
        raise UserError(f"{path}: item_id is {_shown(item_id)}, it must be strings [n]")
    if offsets.shape != (len(item_id) + 1,) or offsets.dtype.kind not in "iu":
        raise UserError(f"{path}: offsets is {_shown(offsets)}, it must be integers [{len(item_id) + 1}] (items + 1)")
    if vectors.ndim != 2:
        raise UserError(f"{path}: vectors is {_shown(vectors)}, it must be numbers [rows, dim]")
    starts = offsets.astype(np.int64)
    if starts[0] != 0 or starts[-1] != len(vectors) or (np.diff(starts) < 0).any():
        raise UserError(f"{path}: offsets must rise from 0 to the number of vectors, {len(vectors)}")
    rows = (vectors[starts[i] : starts[i + 1]] for i in range(len(item_id)))
    tokens = item_id.astype(str).tolist()
    return _write(path, "npz", out, tokens, rows, encoder=encoder, revision=revision, overwrite=overwrite)


def import_mp4sr(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    encoder: str = _UNKNOWN,
    revision: str | None = None,
    overwrite: bool = False,
) -> FeatureStore:
    """Import a pickle as the MP4SR authors publish it: a dict of item -> list of vectors.

    A vector is a numpy array ``[dim]`` or ``[1, dim]``; an array ``[r, dim]`` counts as ``r`` vectors, and may stand
    in place of the list. An empty list is an item without this modality. Nothing but numpy arrays is read from the
    pickle, see :mod:`recbole_msm4sr.data.array_pickle`.

    Raises:
        UserError: the file is missing, damaged or asks for anything but arrays, or is of another structure.
    """
    path = _existing(source)
    content = load_array_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}: it must be a dict of item -> list of vectors")
    tokens = [_token(path, key) for key in content]
    rows = (_stacked(path, token, vectors) for token, vectors in zip(tokens, content.values(), strict=True))
    return _write(path, "mp4sr", out, tokens, rows, encoder=encoder, revision=revision, overwrite=overwrite)


def import_unisrec(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    items: str | os.PathLike[str] | None = None,
    dim: int | None = None,
    encoder: str = _UNKNOWN,
    revision: str | None = None,
    overwrite: bool = False,
) -> FeatureStore:
    """Import UniSRec's ``<name>.feat1CLS``: float32 ``[n_items, dim]`` without a header, one vector per item.

    ``<name>.item2index`` has a line ``token<TAB>index`` per item. UniSRec numbers items from 0 in the order in which
    they first occur, and the vector of index i is row i; its padding item has no row.

    Args:
        source: the ``.feat1CLS`` (or ``.feat2CLS``, ...) file.
        out: the store to make.
        items: the ``.item2index`` file; by default the one beside ``source``.
        dim: length of a vector. It follows from the file's size; give it so that a truncated file is always noticed.
        encoder: name of what made the vectors (UniSRec's own: ``bert-base-uncased``).
        revision: the encoder's version.
        overwrite: replace a store that is there already.

    Raises:
        UserError: a file is missing, the size does not fit the number of items, or the indices are not 0 to n - 1.
    """
    path = _existing(source)
    index_path = Path(items) if items is not None else path.with_suffix(".item2index")
    if not index_path.is_file():
        raise UserError(f"{index_path} does not exist: name UniSRec's .item2index file of {path.name} (--items)")
    index = _read_item2index(index_path)
    n_values, remainder = divmod(path.stat().st_size, 4)
    vector_dim = dim if dim is not None else n_values // len(index)
    if remainder or vector_dim < 1 or n_values != len(index) * vector_dim:
        raise UserError(
            f"{path} has {path.stat().st_size} bytes, which is not {len(index)} items of "
            f"{'equally many' if dim is None else dim} float32 values: is it truncated, or {index_path} another's?"
        )
    table = np.memmap(path, dtype="<f4", mode="r", shape=(len(index), vector_dim))
    rows = (table[row : row + 1] for row in index.values())
    return _write(path, "unisrec", out, list(index), rows, encoder=encoder, revision=revision, overwrite=overwrite)


def _write(
    source: Path,
    kind: str,
    out: str | os.PathLike[str],
    tokens: Sequence[str],
    rows: Iterable[npt.NDArray[Any]],
    **named: Any,
) -> FeatureStore:
    """Write the store, with the source's name before whatever does not fit."""
    try:
        return FeatureStore.write(out, tokens, rows, options={"imported_from": source.name, "format": kind}, **named)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def _existing(source: str | os.PathLike[str]) -> Path:
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path} does not exist, or is not a file: name the file to import")
    return path


def _shown(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _read_npz(path: Path) -> list[npt.NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            present = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            lacking = [name for name in _NPZ_ARRAYS if name not in present]
            if lacking:
                raise UserError(
                    f"{path} lacks {', '.join(lacking)} (it has {', '.join(present)[:200] or 'nothing'}): "
                    "save item_id, offsets and vectors with numpy.savez"
                )
            return [_read_array(path, archive, present[name], name) for name in _NPZ_ARRAYS]
    except UserError:
        raise
    except zipfile.BadZipFile as error:
        if path.read_bytes()[:6] == b"\x93NUMPY":
            raise UserError(
                f"{path} holds a single array: save item_id, offsets and vectors with numpy.savez"
            ) from error
        raise _damaged(path, error) from error
    except Exception as error:  # zipfile and numpy promise no particular exceptions for damaged files
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    cause = " ".join(str(error).split())[:200]
    return UserError(f"{path} is truncated or not an .npz file ({cause}): fetch or save it again")


def _read_array(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> npt.NDArray[Any]:
    """One array of an ``.npz``. What its header announces must be what the file can hold, before memory is taken."""
    if entry.file_size > _MOST_DEFLATED * entry.compress_size + _MOST_DEFLATED:
        raise ValueError(f"{name} cannot have {entry.file_size} bytes in {entry.compress_size}")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{name} is of the .npy version {version}")
        shape, is_fortran, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise UserError(
                f"{path}: {name} is an array of Python objects, which is not read: "
                "save item_id as np.array(tokens, dtype=str), and offsets and vectors as arrays of numbers"
            )
        n_values = math.prod(shape)
        if min(shape, default=0) < 0 or n_values * dtype.itemsize > entry.file_size:
            raise ValueError(f"{name} has not the size of an array {dtype} {list(shape)[:5]}")
        content = file.read()  # to its end, where zipfile compares the checksum
    return np.frombuffer(content, dtype=dtype, count=n_values).reshape(shape, order="F" if is_fortran else "C")


def _token(path: Path, key: object) -> str:
    if isinstance(key, str | int | np.integer) and not isinstance(key, bool):
        return str(key)
    raise UserError(f"{path} has the key {key!r}, a {type(key).__name__}: keys must be item tokens")


def _stacked(path: Path, token: str, vectors: object) -> npt.NDArray[Any]:
    """One item's vectors as ``[r, dim]``."""
    parts = [vectors] if isinstance(vectors, PickledArray) else vectors
    if not isinstance(parts, list | tuple):
        raise UserError(f"{path}: item {token!r} has a {type(parts).__name__}, it must be a list of numpy vectors")
    arrays = []
    for part in parts:
        if not isinstance(part, PickledArray) or part.array.ndim not in (1, 2):
            what = _shown(part.array) if isinstance(part, PickledArray) else f"a {type(part).__name__}"
            raise UserError(f"{path}: item {token!r} has {what} in its list, it must be numpy vectors [dim]")
        arrays.append(np.atleast_2d(part.array))
    if not arrays:
        return np.empty((0, 0), dtype=np.float16)
    if len({array.shape[1] for array in arrays}) > 1:
        raise UserError(f"{path}: item {token!r} has vectors of different lengths: encode all with one encoder")
    return np.concatenate(arrays)


def _read_item2index(path: Path) -> dict[str, int]:
    """Token -> row, in the file's order; the rows are 0 to n - 1, each once."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # only these: splitlines() would cut inside tokens too
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text ({error}): name UniSRec's .item2index file") from error
    index: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        token, _, row = line.partition("\t")
        if not (token and row.strip().isdecimal() and len(row) < 20):
            raise UserError(f"{path}, line {number}: {line[:100]!r} is not 'token<TAB>index', as UniSRec writes it")
        if token in index:
            raise UserError(f"{path}, line {number}: item {token!r} occurs more than once: remove one of its lines")
        index[token] = int(row)
    if not index:
        raise UserError(f"{path} does not name any item: name UniSRec's .item2index file")
    if sorted(index.values()) != list(range(len(index))):
        raise UserError(
            f"{path}: the indices of its {len(index)} items must be 0 to {len(index) - 1}, each once, as UniSRec "
            "writes them: number the items again"
        )
    return index
