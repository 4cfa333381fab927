"""How a feature store's files are read back: each is checked against the manifest before it is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_writer import DATA_FILES, FORMAT_VERSION, ITEMS, MANIFEST, OFFSETS, VALUES


def read_files(folder: Path) -> tuple[dict[str, Any], list[str], npt.NDArray[np.int64], npt.NDArray[np.float16]]:
    """The manifest, the item tokens, the offsets int64 ``[n_items + 1]``, the values float16 ``[n_rows, dim]``.

    Values are memory-mapped, read-only. Shapes and counts are checked; contents are not hashed.

    Raises:
        UserError: the folder is no store, is of an unknown version, or its files are missing, truncated or do not
            fit each other.
    """
    manifest = _read_manifest(folder)
    n_items, n_rows, dim = manifest["n_items"], manifest["n_rows"], manifest["dim"]
    tokens = _load(folder, ITEMS, _read_tokens)
    offsets = _load(folder, OFFSETS, lambda file: np.load(file, allow_pickle=False))
    values = _load(folder, VALUES, lambda file: np.load(file, mmap_mode="r", allow_pickle=False))

    require(len(tokens) == n_items, folder, f"{ITEMS} has {len(tokens)} items, {MANIFEST} says {n_items}")
    require(len(set(tokens)) == n_items, folder, f"{ITEMS} names an item twice")
    _require_array(folder, OFFSETS, offsets, np.dtype(np.int64), (n_items + 1,))
    _require_array(folder, VALUES, values, np.dtype(np.float16), (n_rows, dim))
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
        raise UserError(f"{folder} is no feature store (it has no {MANIFEST}): make one with 'msm4sr features import'")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise UserError(f"feature store {folder}: {MANIFEST} cannot be read ({error}); import it again") from error
    require(isinstance(manifest, dict), folder, f"{MANIFEST} is not a JSON object")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"feature store {folder} has format version {version}, this program reads {FORMAT_VERSION}: import it again"
        )
    for key in ("dim", "n_items", "n_rows"):
        require(type(manifest.get(key)) is int and manifest[key] > 0, folder, f"{MANIFEST} has no valid {key}")
    require(manifest.get("dtype") == "float16", folder, f"{MANIFEST} says dtype {manifest.get('dtype')}, not float16")
    checksums = manifest.get("checksums")
    complete = isinstance(checksums, dict) and all(isinstance(checksums.get(name), str) for name in DATA_FILES)
    require(complete, folder, f"{MANIFEST} lacks the checksums of {', '.join(DATA_FILES)}")
    return manifest


def _load(folder: Path, name: str, read: Callable[[Path], Any]) -> Any:
    """``read(folder / name)``, with what goes wrong in a missing or truncated file said in one line."""
    try:
        return read(folder / name)
    except (OSError, EOFError, ValueError) as error:
        cause = " ".join(str(error).split())  # numpy's own messages may run over several lines
        raise UserError(f"feature store {folder}: {name} cannot be read ({cause}); import it again") from error


def _read_tokens(file: Path) -> list[str]:
    *tokens, rest = file.read_bytes().decode("utf-8").split("\n")
    if rest:
        raise ValueError("its last line is cut off")
    return tokens


def _require_array(folder: Path, name: str, array: object, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    fits = isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == shape
    require(fits, folder, f"{name} is not an array {dtype} {list(shape)}, as {MANIFEST} has it")
