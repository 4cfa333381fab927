"""How a feature store's files are written: tokens are checked first, then rows are streamed one item at a time.

Memory stays at one item's rows plus the offsets, whatever the size of the whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.tokens import token_problem

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ITEMS = "items.txt"
OFFSETS = "offsets.npy"
VALUES = "values.npy"
DATA_FILES = (ITEMS, OFFSETS, VALUES)

# The .npy header is written twice: as room at the start, and with the row count once that is known. It has to be
# of one size for any count; 128 keeps the values aligned to 64 bytes, as the format asks.
_HEADER_BYTES = 128
_PREAMBLE_BYTES = 10  # magic, version and the length of the text that follows


def check_tokens(item_tokens: Sequence[str]) -> list[str]:
    """Item tokens as a list of plain ``str``.

    Raises:
        UserError: a token occurs twice, or cannot name an item (:func:`~recbole_msm4sr.data.tokens.token_problem`).
    """
    seen: set[str] = set()
    for token in item_tokens:
        if problem := token_problem(token):
            raise UserError(f"item token {token!r} {problem}: item tokens must be those of the .inter file")
        if token in seen:
            raise UserError(f"item token {token!r} occurs more than once: put all rows of an item together")
        seen.add(str(token))
    return [str(token) for token in item_tokens]


def write_tokens(path: Path, tokens: list[str]) -> None:
    """Write ``items.txt``: one token a line, UTF-8, in order."""
    path.write_bytes("".join(f"{token}\n" for token in tokens).encode("utf-8"))


def stream_values(path: Path, tokens: list[str], rows: Iterable[npt.NDArray[Any]]) -> tuple[npt.NDArray[np.int64], int]:
    """Write ``values.npy`` (float16 ``[n_rows, dim]``) from one array ``[r_i, dim]`` per token.

    Returns:
        The offsets, int64 ``[n + 1]``, and ``dim``. Rows ``offsets[i]:offsets[i + 1]`` belong to ``tokens[i]``.

    Raises:
        UserError: rows and tokens differ in number, an array is not ``[r_i, dim]`` of finite numbers that float16
            can hold, or there is no row at all.
    """
    offsets = np.zeros(len(tokens) + 1, dtype=np.int64)
    dim: int | None = None
    written = 0
    with open(path, "wb", buffering=1 << 20) as file:
        file.write(bytes(_HEADER_BYTES))
        for item_rows in rows:
            if written == len(tokens):
                raise UserError(f"there are rows for more than the {len(tokens)} item tokens: give one array per token")
            half = _as_float16(item_rows, tokens[written], dim)
            if len(half):
                dim = half.shape[1]
                file.write(half.tobytes())
            offsets[written + 1] = offsets[written] + len(half)
            written += 1
        if written < len(tokens):
            raise UserError(
                f"there are rows for {written} of {len(tokens)} item tokens: give one array per token, "
                "of shape [0, dim] for an item without this modality"
            )
        if dim is None:
            raise UserError(
                "no item has any row, so the vectors' length is unknown: give features of one item at least"
            )
        file.seek(0)
        file.write(_npy_header(int(offsets[-1]), dim))
    return offsets, dim


def _as_float16(item_rows: npt.NDArray[Any], token: str, dim: int | None) -> npt.NDArray[np.float16]:
    """One item's rows ``[r_i, dim]`` as little-endian float16; ``dim`` is that of earlier items, if any had rows."""
    array = np.asarray(item_rows)
    if array.ndim != 2:
        raise UserError(f"item {token!r} has an array of shape {list(array.shape)}: rows must be [number of rows, dim]")
    if array.dtype.kind not in "fiu":
        raise UserError(f"item {token!r} has rows of type {array.dtype}: rows must be floating point numbers")
    if len(array) and array.shape[1] == 0:
        raise UserError(f"item {token!r} has vectors of length 0: give [0, dim] for an item without this modality")
    if len(array) and dim is not None and array.shape[1] != dim:
        raise UserError(
            f"item {token!r} has vectors of length {array.shape[1]}, items before it {dim}: encode all with one encoder"
        )
    if not np.isfinite(array).all():
        raise UserError(f"item {token!r} has a NaN or infinite value: encode it again, or give it 0 rows")
    with np.errstate(over="ignore"):
        half = array.astype("<f2")
    if not np.isfinite(half).all():
        raise UserError(
            f"item {token!r} has the value {array[~np.isfinite(half)][0]:g}, but float16 holds ±65504 at most: "
            "scale the features down"
        )
    return half


def _npy_header(n_rows: int, dim: int) -> bytes:
    """A version 1.0 ``.npy`` header of ``_HEADER_BYTES`` bytes for a C-ordered float16 ``[n_rows, dim]``."""
    fields = f"{{'descr': '<f2', 'fortran_order': False, 'shape': ({n_rows}, {dim}), }}"
    text = fields.ljust(_HEADER_BYTES - _PREAMBLE_BYTES - 1) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii")
