"""Checkpoints of tensors and plain Python values: safe to load, whole or absent on disk.

RecBole pickles its whole Config into a checkpoint, which torch >= 2.6 refuses to read (RecBole issue #2212).
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_file

FORMAT_VERSION = 1
_ARRAY, _SPARSE = "__ndarray__", "__sparse__"


def save(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write ``content`` atomically.

    Raises:
        UserError: a value is neither tensor, array nor plain Python, or the file cannot be written.
    """
    plain = to_plain({"format_version": FORMAT_VERSION, **content})
    try:
        with atomic_file(path) as temporary:
            torch.save(plain, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise UserError(f"cannot write the checkpoint {path} ({error}): is the disk full?") from error


def load(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint written by ``save``; nothing but tensors and plain values is ever constructed.

    Raises:
        UserError: no such file, not a checkpoint, or a newer format.
    """
    if not Path(path).is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} is not a checkpoint that can be read safely (tensors and plain values only): "
            f"{str(error).partition(chr(10))[0] or type(error).__name__}"
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path} is not a checkpoint: it has no state_dict")
    if content.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
        raise UserError(f"{path} was written by a newer version of this package: upgrade to read it")
    return from_plain(content)


def to_plain(value: Any) -> Any:
    """Turn a value into tensors and plain Python values.

    Raises:
        UserError: there is no such form; the message names the type.
    """
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (torch.device, os.PathLike)):
        return str(value)
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(to_plain, value)) if type(value) in (list, tuple) else list(map(to_plain, value))
    if isinstance(value, (set, frozenset)):
        return sorted(map(to_plain, value))
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(np.ascontiguousarray(value))}
    if sparse.issparse(value):
        rows = value.tocsr()
        parts = (rows.data, rows.indices, rows.indptr)
        return {_SPARSE: [torch.from_numpy(part.copy()) for part in parts], "shape": list(rows.shape)}
    raise UserError(f"a checkpoint holds tensors and plain values; it cannot hold a {type(value).__name__}")


def from_plain(value: Any) -> Any:
    """Restore the arrays and sparse matrices that ``to_plain`` took apart."""
    if isinstance(value, dict):
        if _ARRAY in value:
            return value[_ARRAY].cpu().numpy()
        if _SPARSE in value:
            parts = tuple(part.cpu().numpy() for part in value[_SPARSE])
            return sparse.csr_matrix(parts, shape=tuple(value["shape"]))
        return {key: from_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(from_plain, value))
    return value


def random_state() -> dict[str, Any]:
    """State of every random number generator that training draws from."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - RecBole draws from the global generator
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put the generators back to a ``random_state``."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])
