"""Reading pickles of numpy arrays without unpickling them.

A pickle is a program for a small stack machine, which can name any function and call it. This module takes the program
apart by :mod:`pickletools` and carries out what dicts, lists and numpy arrays need: the few functions that numpy's
arrays, scalars and dtypes name are imitated here, from checked, plain parts. Anything else is refused, and nothing is
imported. Dictionary keys are strings and numbers, so nothing nested is ever hashed.
"""

from __future__ import annotations

import os
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from recbole_msm4sr.core.errors import UserError

_PLAIN_DTYPE = re.compile(r"[?]|[biufSU]\d+")  # bool, integers, floats, strings: nothing that holds Python objects
_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def load_array_pickle(path: str | os.PathLike[str]) -> Any:
    """The pickled object, made of dicts, lists, tuples, strings, numbers and numpy arrays only.

    Every array is wrapped in a :class:`PickledArray`; numpy scalars come as they are.

    Raises:
        UserError: there is no such file, it is truncated or not a pickle, or it holds anything else (named).
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{file} does not exist: name a pickle of item -> list of vectors")
    with file.open("rb") as stream:
        try:
            return _Machine(_SizedReader(stream, file.stat().st_size)).run()
        except OSError:
            raise
        except _RefusedError as error:
            raise UserError(
                f"{file} {error}, which is refused: only numpy arrays of numbers are read from a pickle; "
                "save the features as such, or as .npz"
            ) from error
        except Exception as error:  # damaged data can fail in any step of the program
            cause = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{file} is truncated or not a pickle of numpy arrays ({cause}): fetch it again") from error


class _RefusedError(Exception):
    """What the pickle asks for, as the middle of a sentence."""


class PickledDtype:
    """A dtype as it is read: its code first, its byte order later."""

    def __init__(self, code: object) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise _RefusedError(f"holds arrays of type {str(code)[:20]!r}")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """Take numpy's state of a dtype: ``(version, byte order, subarray, names, ...)``."""
        _, byte_order, subarray, names, *_ = state
        if subarray is not None or names is not None:
            raise _RefusedError("holds structured arrays")
        self.dtype = self.dtype.newbyteorder(byte_order)


class PickledArray:
    """An array as it is read: empty first, its shape, dtype and bytes later. ``array`` is read-only."""

    def __init__(self) -> None:
        self.array: npt.NDArray[Any] = np.empty(0)

    def build(self, state: Any) -> None:
        """Take numpy's state of an array: ``(version, shape, dtype, Fortran order, bytes)``."""
        _, shape, dtype, is_fortran, raw = state
        self.fill(raw, dtype, shape, "F" if is_fortran else "C")

    def fill(self, raw: Any, dtype: PickledDtype, shape: Any, order: Any) -> None:
        """Take ``raw`` as an array of ``shape``; numpy raises where the number of bytes does not fit."""
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 wrote bytes as text
        flat: npt.NDArray[Any] = np.frombuffer(raw, dtype=dtype.dtype) if len(raw) else np.empty(0, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if order == "F" else "C")


class _Name:
    """A function that the pickle names."""

    def __init__(self, module: object, name: object) -> None:
        self.call = _FUNCTIONS.get((module, name))  # type: ignore[arg-type]
        if self.call is None:
            raise _RefusedError(f"asks for {str(module)[:60]}.{str(name)[:60]}")


def _from_buffer(raw: Any, dtype: PickledDtype, shape: Any, order: Any) -> PickledArray:
    array = PickledArray()
    array.fill(raw, dtype, shape, order)
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _RefusedError(f"asks for the codec {str(encoding)[:20]!r}")
    return text.encode("latin1")


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): PickledArray,  # only as the first argument of _reconstruct
    ("numpy", "dtype"): lambda code, align=False, copy=False: PickledDtype(code),
    ("_codecs", "encode"): _encode,  # protocols 0 to 2 write bytes as latin-1 text
    ("__builtin__", "bytes"): bytes,  # empty ones, as a call without arguments
    ("builtins", "bytes"): bytes,
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _FUNCTIONS[f"{_core}.multiarray", "_reconstruct"] = lambda subtype, shape, code: PickledArray()
    _FUNCTIONS[f"{_core}.multiarray", "scalar"] = lambda dtype, raw: np.frombuffer(raw, dtype.dtype, count=1)[0]
    _FUNCTIONS[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _Machine:
    """Carries out the opcodes of one pickle; ``stack``, ``marks`` and ``memo`` are the pickle module's own terms."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object on top of the stack at the pickle's end."""
        for opcode, argument, _ in pickletools.genops(self._stream):
            self._step(opcode.name, argument)
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _PUSHED:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            stack.append(tuple(stack.pop() for _ in range(_TUPLES[name]))[::-1])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name not in ("PROTO", "FRAME", "STOP"):
            operation = getattr(self, f"_{name.lower()}", None)
            if operation is None:
                raise _RefusedError(f"uses the opcode {name}")
            operation(*([argument] if name == "GLOBAL" else []))

    def _since_mark(self) -> list[Any]:
        first = self._marks.pop()
        values = self._stack[first:]
        del self._stack[first:]
        return values

    def _tuple(self) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _list(self) -> None:
        self._stack.append(self._since_mark())

    def _dict(self) -> None:
        values = self._since_mark()
        self._stack.append({})
        self._set(values)

    def _append(self) -> None:
        self._add([self._stack.pop()])

    def _appends(self) -> None:
        self._add(self._since_mark())

    def _add(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise _RefusedError("appends to something other than a list")
        self._stack[-1].extend(values)

    def _setitem(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _setitems(self) -> None:
        self._set(self._since_mark())

    def _set(self, values: list[Any]) -> None:
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, (str, int, np.integer)):
                raise _RefusedError(f"has a {type(key).__name__} as a key (keys must be item tokens)")
            self._stack[-1][key] = value

    def _global(self, names: str) -> None:
        module, _, name = names.partition(" ")
        self._stack.append(_Name(module, name))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise _RefusedError("names a function by something other than text")
        self._stack.append(_Name(module, name))

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Name) or function.call is None:
            raise _RefusedError(f"calls a {type(function).__name__}")
        self._stack.append(function.call(*arguments))

    def _build(self) -> None:
        state = self._stack.pop()
        if not isinstance(self._stack[-1], (PickledArray, PickledDtype)):
            raise _RefusedError(f"sets the state of a {type(self._stack[-1]).__name__}")
        self._stack[-1].build(state)


class _SizedReader:
    """A file that never reads past its end: a pickle may state any length."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size
        self.readline, self.tell = stream.readline, stream.tell

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if count > self._size:
            raise ValueError(f"{count} bytes are announced, the file has {self._size}")
        return self._stream.read(count)
