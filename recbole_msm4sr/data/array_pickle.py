"""Reading pickles of numpy arrays without running anything that they ask for.

A pickle names functions and calls them. Here the few names that numpy's arrays, scalars and dtypes need lead to
readers of this module, which build arrays from checked, plain parts; any other name is refused before it is imported.
Not even numpy's own ``__setstate__`` sees the file: it takes object dtypes and field layouts on trust.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from recbole_msm4sr.core.errors import UserError

_NUMPY_CORE = ("numpy.core", "numpy._core")  # before and since numpy 2
_PLAIN_DTYPE = re.compile(r"[?]|[biufSU]\d+")  # bool, integers, floats, strings: nothing that holds Python objects


def load_array_pickle(path: str | os.PathLike[str]) -> Any:
    """The pickled object, made of dicts, lists, tuples, strings, numbers and numpy arrays only.

    Every array is wrapped in a :class:`PickledArray`; numpy scalars come as they are.

    Raises:
        UserError: there is no such file, it is truncated or no pickle, or it holds anything else (named).
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{file} does not exist: name a pickle of item -> list of vectors")
    with file.open("rb") as stream:
        try:
            return _ArrayUnpickler(stream).load()
        except OSError:
            raise
        except _RefusedError as error:
            raise UserError(
                f"{file} {error}, which is refused: only numpy arrays of numbers are read from a pickle; "
                "save the features as such, or as .npz"
            ) from error
        except Exception as error:  # the pickle module promises no particular exception for damaged data
            cause = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{file} is truncated or no pickle of numpy arrays ({cause}): fetch it again") from error


class _RefusedError(Exception):
    """What the pickle asks for, as the middle of a sentence."""


class PickledDtype:
    """A dtype as it is read: its code first, then (``__setstate__``) its byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: str) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise _RefusedError(f"holds arrays of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, byte_order, subarray, names, *_ = state
        if subarray is not None or names is not None:
            raise _RefusedError("holds structured arrays")
        self.dtype = self.dtype.newbyteorder(byte_order)


class PickledArray:
    """An array as it is read: empty first, then (``__setstate__``) shape, dtype and bytes. ``array`` is read-only."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: npt.NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, raw = state
        self.fill(raw, dtype, shape, is_fortran)

    def fill(self, raw: bytes | bytearray, dtype: PickledDtype, shape: tuple[int, ...], is_fortran: bool) -> None:
        """Take ``raw`` as an array of ``shape``; numpy raises where the number of bytes does not fit."""
        flat: npt.NDArray[Any] = np.frombuffer(raw, dtype=dtype.dtype) if len(raw) else np.empty(0, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if is_fortran else "C")


class _ArrayUnpickler(pickle.Unpickler):
    """Looks names up in a table of its own. What it hands out are bound methods: a pickle can call, not alter, them."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self._admitted: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy", "ndarray"): self._ndarray,
            ("numpy", "dtype"): self._dtype,
            ("_codecs", "encode"): self._encode,
            ("__builtin__", "bytes"): self._no_bytes,
            ("builtins", "bytes"): self._no_bytes,
        }
        for core in _NUMPY_CORE:
            self._admitted[f"{core}.multiarray", "_reconstruct"] = self._reconstruct
            self._admitted[f"{core}.multiarray", "scalar"] = self._scalar
            self._admitted[f"{core}.numeric", "_frombuffer"] = self._frombuffer

    def find_class(self, module: str, name: str) -> Any:
        """The reader for a name that numpy's arrays need; any other is refused. Nothing is imported."""
        if (module, name) not in self._admitted:
            raise _RefusedError(f"asks for {module}.{name}")
        return self._admitted[module, name]

    def _ndarray(self) -> PickledArray:
        """Stands for the class, the first argument of ``_reconstruct``."""
        return PickledArray()

    def _reconstruct(self, subtype: object, shape: object, code: object) -> PickledArray:
        """An array to be filled by ``__setstate__``; numpy passes an empty shape and a stand-in dtype here."""
        return PickledArray()

    def _frombuffer(self, raw: bytes, dtype: PickledDtype, shape: tuple[int, ...], order: str) -> PickledArray:
        """An array of pickle protocol 5."""
        pickled = PickledArray()
        pickled.fill(raw, dtype, shape, order == "F")
        return pickled

    def _scalar(self, dtype: PickledDtype, raw: bytes) -> Any:
        return np.frombuffer(raw, dtype=dtype.dtype, count=1)[0]

    def _dtype(self, code: str, align: bool = False, copy: bool = False) -> PickledDtype:
        return PickledDtype(code)

    def _encode(self, text: str, encoding: str) -> bytes:
        """Protocols 0 to 2 write bytes as latin-1 text."""
        if encoding != "latin1":
            raise _RefusedError(f"asks for the codec {encoding!r}")
        return text.encode("latin1")

    def _no_bytes(self) -> bytes:
        """Protocols 0 to 2 write empty bytes as a call without arguments."""
        return b""
