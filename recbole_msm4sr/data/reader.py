"""The one reader of RecBole's atomic files (.inter, .item, .user): header, columns, and what is refused in them.

Whatever would be misread is refused with file and line. Plain files go through ``plain_reader``, which is several
times as fast; all others, and files in which it finds a fault, are read here line by line.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.plain_reader import LARGEST, NotPlainError, read_plain, to_categorical
from recbole_msm4sr.data.tokens import CONTROL_CHARACTER, MISSING, text_problem, token_problem

KINDS = ("token", "float", "token_seq", "float_seq")
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,4})?\s*", re.ASCII)
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_UNDECODED = re.compile("[\ud800-\udfff]")
_LINES_NAMED = 3  # of those that are left out


@dataclass(frozen=True)
class Format:
    """How an atomic file is written: between cells, between the parts of a sequence, and its encoding."""

    separator: str = "\t"
    encoding: str = "utf-8"
    seq_separator: str = " "


@dataclass(frozen=True)
class Table:
    """Columns of an atomic file.

    Attributes:
        columns: by field, in the order of the file. Tokens: a categorical, the categories in the order in which they
            appear, a missing token with the code -1. Numbers: float64 ``[rows]``, NaN where a cell is empty. Sequences:
            a list of lists of ``str`` or ``float``.
        left_out: which lines were left out and why, in words; ``None`` if all were read.
    """

    columns: dict[str, Any]
    left_out: str | None


def read_header(
    path: str | os.PathLike[str], needed: Mapping[str, str] | None = None, form: Format | None = None
) -> dict[str, str]:
    """Field to type (token, float, token_seq or float_seq) of every column, in the order of the file.

    Args:
        path: the file.
        needed: fields that must be there, with their types.
        form: how the file is written.

    Raises:
        UserError: the file cannot be read, a column is missing, stands twice, or has another or no type.
    """
    form = form or Format()
    _, line = next(_numbered_lines(path, form), (1, ""))
    if line.startswith("\ufeff"):
        raise UserError(f"{path} starts with a byte order mark: save it without one, or set encoding to utf-8-sig")
    if "\t" in line and "\t" not in form.separator:
        raise UserError(f"{path}, line 1: has tabs between its columns, and field_separator is {form.separator!r}")
    if CONTROL_CHARACTER.search(line.replace(form.separator, "")):
        raise UserError(f"{path}, line 1: holds a control character ({line[:80]!r}): remove it")
    header: dict[str, str] = {}
    for cell in line.split(form.separator):
        field, _, kind = cell.partition(":")
        if field in header:
            raise UserError(f"{path}, line 1: the column {field!r} occurs twice: rename or remove one")
        header[field] = kind
    for field, kind in (needed or {}).items():
        if field not in header:
            columns = ", ".join(f"{name}:{kind}" for name, kind in (needed or {}).items())
            raise UserError(
                f"{path} has no column {field!r} in its first line ({line[:200]!r}): it needs {columns}; other "
                "names are set by USER_ID_FIELD, ITEM_ID_FIELD and TIME_FIELD"
            )
        if header[field] != kind:
            found = f"is of the type {header[field]!r}" if header[field] else "has no type"
            raise UserError(f"{path}: {field} {found} in its first line: write {field}:{kind}")
    for field, kind in header.items():
        if kind not in KINDS:
            found = f"is of the type {kind!r}, which does not exist," if kind else "has no type"
            raise UserError(
                f"{path}: {field!r} {found} in its first line: write one of {', '.join(KINDS)} behind a colon"
            )
    return header


def read_table(
    path: str | os.PathLike[str],
    fields: Collection[str],
    *,
    names: Collection[str] = (),
    complete: Collection[str] = (),
    form: Format | None = None,
) -> Table:
    """Read columns of an atomic file, and check every cell of them.

    Args:
        path: the file.
        fields: the columns to read.
        names: those of them that name users or items; a line without one of these is left out, as RecBole does.
        complete: columns of numbers that must have one in every line, such as times.
        form: how the file is written.

    Raises:
        UserError: with the line, what cannot be read as it was meant: cells too many or missing, a quote that is not
            closed, bytes of another encoding, control characters, tokens that RecBole cannot read (``tokens``), a
            cell that is not a finite float32 number.
    """
    form = form or Format()
    header = read_header(path, form=form)
    places = {field: place for place, field in enumerate(header) if field in fields}
    kinds = [kind if field in fields else None for field, kind in header.items()]
    if set(kinds) <= {"token", "float", None}:
        try:
            values = read_plain(
                path,
                form.separator,
                form.encoding,
                kinds,
                names=[places[field] for field in names if field in places],
                complete=[places[field] for field in complete if field in places],
            )
            return _without_nameless(path, dict(zip(places, values, strict=True)), names, None)
        except NotPlainError:
            pass
    columns = {
        place: _Column(header[field], form, is_name=field in names, is_complete=field in complete)
        for field, place in places.items()
    }
    line_numbers = array("q")
    for number, cells in _cells(path, form, list(header)):
        line_numbers.append(number)
        for place, column in columns.items():
            if problem := column.add(cells[place]):
                field = list(header)[place]
                raise UserError(f"{path}, line {number}: {field} {problem}: correct the line or remove it")
    read = {field: columns[place].values() for field, place in places.items()}
    return _without_nameless(path, read, names, np.frombuffer(line_numbers, dtype=np.int64))


def _without_nameless(
    path: str | os.PathLike[str],
    columns: dict[str, Any],
    names: Collection[str],
    line_numbers: NDArray[np.int64] | None,
) -> Table:
    """Leave out the lines in which a user or an item is missing; ``line_numbers``: default one line a row."""
    missing = {field: columns[field].codes < 0 for field in names if field in columns}
    if not any(lacks.any() for lacks in missing.values()):
        return Table(columns, None)
    is_left_out = np.logical_or.reduce(list(missing.values()))
    rows = np.flatnonzero(is_left_out)
    words = []
    for row in rows[:_LINES_NAMED].tolist():
        lacking = " and no ".join(field for field, lacks in missing.items() if lacks[row])
        words.append(f"line {row + 2 if line_numbers is None else line_numbers[row]} has no {lacking}")
    kept = np.flatnonzero(~is_left_out)
    columns = {
        field: [column[row] for row in kept] if isinstance(column, list) else column[kept]
        for field, column in columns.items()
    }
    more = ", ..." if len(rows) > _LINES_NAMED else ""
    text = f"{path}: {len(rows):,} of {len(is_left_out):,} lines are left out: {', '.join(words)}{more}"
    return Table(columns, f"{text} (NA, null and the like are read as missing)")


def _numbered_lines(path: str | os.PathLike[str], form: Format) -> Iterator[tuple[int, str]]:
    """Number and text of every line, line ends removed.

    Bytes that are not of the encoding become lone surrogates, so that their line can be named.
    """
    try:
        with open(path, encoding=form.encoding, errors="surrogateescape", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                text = line.removesuffix("\n").removesuffix("\r")
                if not text.isascii() and _UNDECODED.search(text):
                    _refuse(path, number, f"is not {form.encoding}: set encoding to the file's")
                yield number, text
    except LookupError as error:
        raise UserError(f"encoding: {error}") from error
    except UnicodeError as error:  # UTF-16 without a byte order mark, or with half a character
        raise UserError(f"{path} is not {form.encoding} ({error}): set encoding to the file's") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _cells(path: str | os.PathLike[str], form: Format, header: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of every line after the header that is not blank."""
    lines = _numbered_lines(path, form)
    next(lines, None)
    for number, line in lines:
        if not line or (line.isspace() and form.separator not in line):
            continue
        cells = line.split(form.separator)
        if '"' in line:
            unquoted = _unquoted(line, form.separator)
            if isinstance(unquoted, str):
                _refuse(path, number, f"{unquoted}: write a quote inside a quoted cell twice, or remove the quotes")
            cells = unquoted
        if len(cells) != len(header):
            amount = "cells are missing, there are" if len(cells) < len(header) else "there are too many cells,"
            columns = ", ".join(header)
            _refuse(path, number, f"{amount} {len(cells)} of {len(header)} ({columns}): correct the line or remove it")
        yield number, cells


def _unquoted(line: str, separator: str) -> list[str] | str:
    """The cells of a line, some of them quoted; or what is wrong with the quotes."""
    cells, rest = [], line
    while True:
        if rest.startswith('"'):
            match = _QUOTED.match(rest)
            if match is None:
                return "a quote opens a cell and none closes it on this line"
            rest = rest[match.end() :]
            if rest and not rest.startswith(separator):
                return "text follows a closing quote"
            cells.append(match[1].replace('""', '"'))
            if not rest:
                return cells
            rest = rest.removeprefix(separator)
        else:
            cell, found, rest = rest.partition(separator)
            cells.append(cell)
            if not found:
                return cells


def _refuse(path: str | os.PathLike[str], number: int, problem: str) -> NoReturn:
    raise UserError(f"{path}, line {number}: {problem}")


class _Column:
    """A column of an atomic file: the numbers of its cells, and each distinct cell once."""

    def __init__(self, kind: str, form: Format, *, is_name: bool, is_complete: bool) -> None:
        self.kind, self.form, self.is_name, self.is_complete = kind, form, is_name, is_complete
        self.codes = array("i")
        self.code_of: dict[str, int] = {}

    def add(self, cell: str) -> str | None:
        """Append a cell; returns what is wrong with it, if anything."""
        code = self.code_of.get(cell)
        if code is None:
            problem = next(filter(None, map(self._problem, self._parts(cell))), None)
            if problem:
                return problem
            code = self.code_of[cell] = len(self.code_of)
        self.codes.append(code)
        return None

    def values(self) -> Any:
        """The whole column, as ``Table`` describes it."""
        codes, cells = np.array(self.codes, dtype=np.int32), list(self.code_of)
        if self.kind == "token":
            return to_categorical(codes, cells)
        if self.kind == "float":
            return _to_float64(cells)[codes] if cells else np.empty(0)
        to_part = float if self.kind == "float_seq" else str
        sequences = [list(map(to_part, self._parts(cell))) for cell in cells]
        return [sequences[code] for code in self.codes]

    def _parts(self, cell: str) -> list[str]:
        if not self.kind.endswith("_seq"):
            return [cell]
        return [] if cell in MISSING else [part for part in cell.split(self.form.seq_separator) if part]

    def _problem(self, part: str) -> str | None:
        """What is wrong with a cell, or with a part of a sequence."""
        if self.kind.startswith("token"):
            problem = None if part in MISSING else (token_problem if self.is_name else text_problem)(part)
            return problem and f"is {part[:80]!r}, which {problem}"
        if not part and not self.is_complete:
            return None
        if not _NUMBER.fullmatch(part):
            return f"must be a number, not {part[:80]!r}"
        return None if abs(float(part)) <= LARGEST else f"must be within float32's ±3.4e38, not {part[:80]!r}"


def _to_float64(cells: list[str]) -> NDArray[np.float64]:
    """Numbers as pandas converts them, by which RecBole reads; float64 ``[cells]``, NaN where a cell is empty."""
    text = "".join(f"{cell or 'nan'}\n" for cell in cells)
    return pd.read_csv(StringIO(text), header=None, dtype=np.float64, float_precision="high").iloc[:, 0].to_numpy()
