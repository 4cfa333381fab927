"""Checkpoints of tensors and plain Python values: safe to load, whole or absent on disk.

RecBole pickles its whole Config into a checkpoint, which torch >= 2.6 refuses to read (RecBole issue #2212).
"""

from __future__ import annotations

import os
import random
import zipfile
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
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise UserError(f"cannot write the checkpoint {path} ({error}): is the disk full?") from error


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint written by ``save``, to the CPU; nothing but tensors and plain values is ever constructed.

    Raises:
        UserError: no such file, not a checkpoint, bytes that have changed since it was written, or a newer format.
    """
    if reason := damage(path):
        raise UserError(f"{path} is not a checkpoint that can be read safely: {reason}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        _check(content)
        return from_plain(content)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{path} is not a checkpoint that can be read safely (tensors and plain values only): {reason}"
        ) from error


def damage(path: str | os.PathLike[str]) -> str | None:
    """What is wrong with the bytes of a checkpoint, which torch reads without a look at their checksums.

    Returns:
        The reason in a few words; ``None`` if all of them are as they were written.
    """
    if not Path(path).is_file():
        return "there is no checkpoint of this name"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                return "it is compressed, as torch.save's files never are"
            if sum(entry.file_size for entry in entries) > os.path.getsize(path):
                return "it says that it is larger than it is"
            changed = archive.testzip()
    except Exception as error:  # zipfile promises no particular exception for damaged bytes
        return f"it is not a file of torch.save's, or only a part of one ({error})"
    return None if changed is None else f"its checksum does not fit: {changed} has changed since it was written"


def _check(content: Any) -> None:
    """Refuse what is not a checkpoint of this package.

    Raises:
        ValueError: the reason.
    """
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(weight, torch.Tensor) for weight in state.values()):
        raise ValueError("it has no state_dict of tensors")
    version = content.get("format_version", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError("it was written by a newer version of this package: upgrade to read it")


def to_plain(value: Any) -> Any:
    """Turn a value into tensors and plain Python values.

    Raises:
        UserError: there is no such form; the message names the type.
    """
    if isinstance(value, np.generic):  # numpy's floats and strings are Python's as well
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        return value
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
            return value[_ARRAY].numpy()
        if _SPARSE in value:
            return sparse.csr_matrix(tuple(part.numpy() for part in value[_SPARSE]), shape=tuple(value["shape"]))
        return {key: from_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(from_plain, value))
    return value


def random_state(device: torch.device) -> dict[str, Any]:
    """State of every random number generator that training on a device draws from; a GPU is not touched for others."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - RecBole draws from the global generator
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put the generators back to a ``random_state``; a GPU's only where both had one."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
