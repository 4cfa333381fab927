"""Fast reading of plain atomic files: tokens become numbers where they lie, without a Python string a cell.

A file is plain when its lines are cells between single-byte separators and nothing else: no quotes, no carriage
returns, as many cells in every line as in the header, no cell that must be refused. ``reader`` reads the others, and
names the line of a cell that it refuses. Both read the same values.
"""

from __future__ import annotations

import codecs
import io
import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_msm4sr.data.tokens import CONTROL_CHARACTER, MISSING, PADDING

Int = NDArray[np.int64]
#: The bytes of a column's cells, eight to a word: the first word of every cell, the second, ...; uint64 [rows] each.
Words = list[NDArray[np.uint64]]

_BLOCK = 2**21  # bytes read at a time; what is made of a block then stays in the processor's cache
_LONGEST_TOKEN = 64  # bytes
_TRANSPARENT = ("utf-8", "ascii", "iso8859-1")  # encodings that keep ASCII bytes for ASCII characters alone
#: Which bits of its k-th word are a cell's that has n bytes; uint64 [words, n].
_INSIDE = np.array(
    [[(1 << 8 * min(max(n - 8 * k, 0), 8)) - 1 for n in range(_LONGEST_TOKEN + 1)] for k in range(_LONGEST_TOKEN // 8)],
    dtype="<u8",
)
_MOST_DIGITS = 15  # of a whole number that float64 holds exactly, whatever they are
_POWER_OF_TEN = 10 ** np.arange(17, dtype=np.uint64)


_LONG_EXPONENT = re.compile(rb"[\d.][eE][-+]?\d{5}")  # with ten digits pandas reads beyond its memory
#: The largest number of RecBole's float32 tensors.
LARGEST = float(np.finfo(np.float32).max)


class NotPlainError(ValueError):
    """The file must be read by the general parser, which may find it broken."""


def read_plain(
    path: str | os.PathLike[str],
    separator: str,
    encoding: str | None,
    kinds: Sequence[str | None],
    *,
    names: Collection[int] = (),
    complete: Collection[int] = (),
) -> list[pd.Categorical | NDArray[np.float64]]:
    """Read columns of tokens and of numbers.

    Args:
        path: the file; its first line is a header.
        separator: between the cells of a line.
        encoding: of the tokens; default UTF-8.
        kinds: for every column of the file ``"token"``, ``"float"``, or ``None`` to skip it.
        names: places of the columns whose tokens name users or items.
        complete: places of the columns of numbers without an empty cell.

    Returns:
        The columns that are not skipped: a token column as a categorical (its codes are narrow integers; what pandas
        takes for a missing value is missing), a number column as float64 ``[rows]``, NaN where a cell is empty.

    Raises:
        NotPlainError: the file must be read by the general parser.
    """
    codec = codecs.lookup(encoding or "utf-8").name
    if codec not in _TRANSPARENT or len(separator) != 1 or not separator.isascii() or len(kinds) < 2:
        raise NotPlainError
    tokens = {column: _TokenColumn() for column, kind in enumerate(kinds) if kind == "token"}
    numbers = {column: _GrowingArray(np.float64) for column, kind in enumerate(kinds) if kind == "float"}
    for block in _blocks(path):
        if b'"' in block:
            raise NotPlainError
        text = np.frombuffer(block + b"x" * _LONGEST_TOKEN, dtype=np.uint8)  # so that words end inside the text
        start, length = _cells(text, ord(separator), len(kinds))
        for column, token_column in tokens.items():
            token_column.append(_words(text, start[:, column], length[:, column]))
        for column, number_column in numbers.items():
            cells = start[:, column], length[:, column]
            values = _whole_numbers(text, *cells)
            if values is None:
                values = _any_numbers(block, separator, column)
                may_lack = (cells[1] == 0) & (column not in complete)
                if not (may_lack | (np.abs(values) <= LARGEST)).all():
                    raise NotPlainError
            number_column.append(values)
    return [
        tokens[column].categorical(codec, is_name=column in names) if kind == "token" else numbers[column].values
        for column, kind in enumerate(kinds)
        if kind is not None
    ]


def _blocks(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The lines after the header, some at a time, each with its newline."""
    with open(path, "rb") as file:
        file.readline()
        if not file.peek(1):
            raise NotPlainError
        while block := file.read(_BLOCK):
            block += file.readline()
            yield block if block.endswith(b"\n") else block + b"\n"


def _cells(text: NDArray[np.uint8], separator: int, n_columns: int) -> tuple[Int, Int]:
    """First byte and number of bytes of every cell, int64 ``[rows, n_columns]`` each."""
    is_end = text < ord(" ")  # tabs and newlines; any other control character is in a wrong place below
    if separator >= ord(" "):
        is_end |= text == separator
    end = np.flatnonzero(is_end)
    if len(end) % n_columns:
        raise NotPlainError
    start = np.concatenate([[0], end[:-1] + 1]).reshape(-1, n_columns)
    end = end.reshape(-1, n_columns)
    if (text[end] != np.array([separator] * (n_columns - 1) + [ord("\n")], dtype=np.uint8)).any():
        raise NotPlainError
    return start, end - start


def _words(text: NDArray[np.uint8], start: Int, length: Int, fill: bytes = b"\0") -> Words:
    """The bytes of a column's cells, the last word of each filled up with ``fill``."""
    longest = int(length.max())
    if longest > _LONGEST_TOKEN:
        raise NotPlainError
    word_at = np.lib.stride_tricks.sliding_window_view(text, 8).view("<u8")[:, 0]  # the eight bytes from every place
    words = []
    for k in range(max(1, -(-longest // 8))):
        inside = _INSIDE[k][length]
        word = word_at[start + 8 * k]
        word &= inside
        if fill != b"\0":
            word |= ~inside & np.frombuffer(fill * 8, dtype="<u8")
        words.append(word)
    return words


def _number(words: Words) -> tuple[NDArray[np.int32], Words]:
    """Number equal cells in order of their first appearance: int32 ``[rows]``, and the words of the distinct ones."""
    key = np.zeros_like(words[0])
    for word in words:
        key += word
        key *= np.uint64(0x9E3779B97F4A7C15)  # an odd number, so that no bit is lost
        key ^= key >> np.uint64(32)  # pandas' hash looks at the low bits
    codes = pd.factorize(key)[0].astype(np.int32)
    a_row = np.empty(codes.max() + 1, dtype=np.int64)
    a_row[codes] = np.arange(len(codes))
    distinct = [word[a_row] for word in words]
    if any((word != one[codes]).any() for word, one in zip(words, distinct, strict=True)):
        raise NotPlainError  # two tokens have the same key
    return codes, distinct


def to_categorical(codes: NDArray[np.int32], tokens: list[str]) -> pd.Categorical:
    """A column of tokens, the categories in the order of ``tokens``; what pandas takes for missing gets the code -1."""
    if MISSING.intersection(tokens):
        is_token = np.array([token not in MISSING for token in tokens])
        codes = np.where(is_token, np.cumsum(is_token, dtype=np.int32) - 1, -1)[codes]
        tokens = [token for token in tokens if token not in MISSING]
    return pd.Categorical.from_codes(codes, categories=pd.Index(np.array(tokens, dtype=object)), validate=False)


class _GrowingArray:
    """An array that grows at its end, in few large steps: many small pieces would leave holes in the memory."""

    def __init__(self, dtype: Any, length: int = 0) -> None:
        self._values, self._length = np.zeros(max(length, 2**16), dtype), length

    def append(self, values: NDArray) -> None:
        end = self._length + len(values)
        if end > len(self._values):
            grown = np.zeros(max(end, 3 * self._length // 2), self._values.dtype)
            grown[: self._length] = self.values
            self._values = grown
        self._values[self._length : end] = values
        self._length = end

    @property
    def values(self) -> NDArray:
        return self._values[: self._length]


class _TokenColumn:
    """A column of tokens, numbered block by block, then as a whole."""

    def __init__(self) -> None:
        self._codes = _GrowingArray(np.int32)
        self._words: list[_GrowingArray] = []
        self._block_ends = [(0, 0)]  # of rows, and of distinct tokens

    def append(self, words: Words) -> None:
        """Add the cells of a block."""
        codes, distinct = _number(words)
        n_rows, n_tokens = self._block_ends[-1]
        self._codes.append(codes)
        self._words += [_GrowingArray("<u8", n_tokens) for _ in range(len(self._words), len(distinct))]
        for k, column in enumerate(self._words):
            column.append(distinct[k] if k < len(distinct) else np.zeros_like(distinct[0]))
        self._block_ends.append((n_rows + len(codes), n_tokens + len(distinct[0])))

    def categorical(self, codec: str, *, is_name: bool) -> pd.Categorical:
        """The whole column; may be called once."""
        numbers, words = _number([column.values for column in self._words])
        self._words.clear()
        codes = self._codes.values
        for (row, token), (end, _) in zip(self._block_ends, self._block_ends[1:], strict=False):
            codes[row:end] = numbers[token:][codes[row:end]]
        lines = np.full((len(words[0]), 8 * len(words) + 1), ord("\n"), dtype=np.uint8)
        lines[:, :-1] = np.stack(words, axis=1).view(np.uint8)
        try:
            tokens = lines.tobytes().replace(b"\0", b"").decode(codec).split("\n")[:-1]
        except UnicodeDecodeError as error:
            raise NotPlainError from error
        self._check(tokens, words[0], is_name)
        return to_categorical(codes, tokens)

    @staticmethod
    def _check(tokens: list[str], first_words: NDArray[np.uint64], is_name: bool) -> None:
        """Leave tokens that cannot be used to the general parser."""
        text = "".join(tokens)
        if not (text.isascii() and text.isprintable()) and CONTROL_CHARACTER.search(text):
            raise NotPlainError
        begin_with_space = np.flatnonzero(first_words & np.uint64(0xFF) == ord(" ")).tolist()
        may_be_blank = [tokens[i] for i in begin_with_space] if text.isascii() else tokens
        if PADDING in tokens or (is_name and any(token.isspace() for token in may_be_blank)):
            raise NotPlainError


def _whole_numbers(text: NDArray[np.uint8], start: Int, length: Int) -> NDArray[np.float64] | None:
    """A column of digits alone and not too many of them; ``None`` if it is another."""
    if length.min() < 1 or length.max() > _MOST_DIGITS:
        return None
    digits = np.stack(_words(text, start, length, fill=b"0"), axis=1).view(np.uint8) - np.uint8(ord("0"))
    if (digits > 9).any():
        return None
    number: NDArray = digits
    for dtype, base in (("u1", 10), ("u2", 10**2), ("u4", 10**4), ("u8", 10**8)):
        if number.shape[1] > 1:  # neighbours become one number of twice the digits
            number = number[:, 0::2].astype(dtype) * np.array(base, dtype) + number[:, 1::2]
    return (number[:, 0] // _POWER_OF_TEN[digits.shape[1] - length]).astype(np.float64)


def _any_numbers(block: bytes, separator: str, column: int) -> NDArray[np.float64]:
    """A column of numbers, read by pandas."""
    if _LONG_EXPONENT.search(block):
        raise NotPlainError
    try:
        frame = pd.read_csv(
            io.BytesIO(block),
            delimiter=separator,
            header=None,
            usecols=[column],
            dtype=np.float64,
            float_precision="high",
        )
    except ValueError as error:
        raise NotPlainError from error
    return frame.iloc[:, 0].to_numpy()
