"""The files of a feature store, written and read: checked against the manifest before they are used.

Writing streams rows one item at a time: memory stays at one item's rows plus the offsets, whatever the whole's size.
Reading checks everything: a store may come from anywhere.
"""

from __future__ import annotations

import json
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
_LARGEST_MANIFEST = 1 << 20  # bytes; the encoder, some options and three checksums are about a thousand


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


def read_files(folder: Path) -> tuple[dict[str, Any], list[str], npt.NDArray[np.int64], npt.NDArray[np.float16]]:
    """The manifest, the item tokens, the offsets int64 ``[n_items + 1]``, the values float16 ``[n_rows, dim]``.

    Values are memory-mapped, read-only. Shapes and counts are checked; contents are not hashed.

    Raises:
        UserError: the folder is not a store, is of an unknown version, or its files are missing, truncated or do not
            fit each other.
    """
    manifest = _read_manifest(folder)
    n_items, n_rows, dim = manifest["n_items"], manifest["n_rows"], manifest["dim"]
    tokens = _read_tokens(folder)
    require(len(tokens) == n_items, folder, f"{ITEMS} has {len(tokens)} items, {MANIFEST} says {n_items}")
    require(len(set(tokens)) == n_items, folder, f"{ITEMS} names an item twice")
    offsets = np.array(_map_array(folder, OFFSETS, np.dtype(np.int64), (n_items + 1,)))
    values = _map_array(folder, VALUES, np.dtype(np.float16), (n_rows, dim))
    rises = offsets[0] == 0 and offsets[-1] == n_rows and bool((np.diff(offsets) >= 0).all())
    require(rises, folder, f"{OFFSETS} does not rise from 0 to {n_rows}")
    return manifest, tokens, offsets, values


def require(holds: bool, folder: Path, otherwise: str) -> None:
    """Raise a ``UserError`` that names the store and says ``otherwise``, unless ``holds``."""
    if not holds:
        raise UserError(f"feature store {folder}: {otherwise}; import the features again")


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    if not file.is_file():
        raise UserError(
            f"{folder} is not a feature store (it has no {MANIFEST}): make one with 'msm4sr features import'"
        )
    require(file.stat().st_size <= _LARGEST_MANIFEST, folder, f"{MANIFEST} is larger than any manifest")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise UserError(f"feature store {folder}: {MANIFEST} cannot be read ({error}); import it again") from error
    require(isinstance(manifest, dict), folder, f"{MANIFEST} is not a JSON object")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"feature store {folder} has format version {str(version)[:20]}, this program reads {FORMAT_VERSION}: "
            "import it again"
        )
    for key in ("dim", "n_items", "n_rows"):
        valid = type(manifest.get(key)) is int and 0 < manifest[key] < 2**48
        require(valid, folder, f"{MANIFEST} has no valid {key}")
    require(manifest.get("dtype") == "float16", folder, f"{MANIFEST} says another dtype, not float16")
    checksums = manifest.get("checksums")
    complete = isinstance(checksums, dict) and all(isinstance(checksums.get(name), str) for name in DATA_FILES)
    require(complete, folder, f"{MANIFEST} lacks the checksums of {', '.join(DATA_FILES)}")
    options = manifest.get("options")
    require(options is None or isinstance(options, dict), folder, f"{MANIFEST} has options that are not a JSON object")
    return manifest


def _regular(folder: Path, name: str) -> Path:
    """A file of the store; not a pipe or a device, which might never end."""
    file = folder / name
    require(file.is_file(), folder, f"{name} is missing, or is not a regular file")
    return file


def _read_tokens(folder: Path) -> list[str]:
    content = _regular(folder, ITEMS).read_bytes()
    require(content.endswith(b"\n"), folder, f"{ITEMS} cannot be read (its last line is cut off)")
    try:
        return content.decode("utf-8")[:-1].split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"feature store {folder}: {ITEMS} cannot be read ({error}); import it again") from error


def _map_array(folder: Path, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The array that a file has to hold, mapped; its header is compared with what is expected, not trusted."""
    file = _regular(folder, name)
    n_bytes = dtype.itemsize * int(np.prod(shape, dtype=object))
    header_bytes = file.stat().st_size - n_bytes
    require(0 < header_bytes < 2**16, folder, f"{name} has not the size of an array {dtype} {list(shape)}")
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy promises no particular exception for a damaged header
        cause = " ".join(str(error).split())[:200]
        raise UserError(f"feature store {folder}: {name} cannot be read ({cause}); import it again") from error
    fits = isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == shape and array.flags.c_contiguous
    require(fits, folder, f"{name} is not an array {dtype} {list(shape)}, as {MANIFEST} has it")
    return array


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
