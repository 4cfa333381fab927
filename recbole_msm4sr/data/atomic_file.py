"""What can be said of an atomic file before it is parsed, or when parsing failed: its header, its first bad line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from pandas._libs.parsers import STR_NA_VALUES

from recbole_msm4sr.core.errors import UserError


def read_header(path: str | os.PathLike[str], separator: str, encoding: str | None) -> list[str]:
    """The cells of the first line, ``field:type`` each.

    Raises:
        UserError: there is no such encoding, or it is not the file's.
    """
    try:
        with open(path, encoding=encoding or "utf-8", errors="replace") as file:
            return file.readline().rstrip("\n").split(separator)
    except LookupError as error:
        raise UserError(f"encoding: {error}") from error
    except UnicodeError as error:  # UTF-16 without a byte order mark, whatever errors= says
        raise UserError(f"{path} is not {encoding} ({error}): set encoding to the file's") from error


def find_short_line(path: str | os.PathLike[str], separator: str, encoding: str | None) -> str | None:
    """The first line with fewer cells than the header, in words; ``None`` if there is none."""
    header = read_header(path, separator, encoding)
    for number, cells in _lines(path, separator, encoding):
        if len(cells) < len(header):
            return (
                f"{path}, line {number}: cells are missing, there are {len(cells)} of {len(header)} "
                f"({', '.join(header)}): complete the line or remove it"
            )
    return None


def find_bad_number(
    path: str | os.PathLike[str],
    separator: str,
    encoding: str | None,
    columns: Mapping[int, tuple[str, str | None]],
) -> str | None:
    """The first cell that should be a number and is none, in words; ``None`` if there is no such cell.

    Args:
        path: the file.
        separator: between the cells of a line.
        encoding: of the file; default UTF-8.
        columns: of every column of numbers, by its place in the file, the field, and what separates the numbers of a
            cell where there may be several.
    """
    for number, cells in _lines(path, separator, encoding):
        for column, (field, within) in columns.items():
            cell = cells[column] if column < len(cells) else ""
            for text in cell.split(within) if within else [cell]:
                if text not in STR_NA_VALUES and not _is_number(text):
                    fault = f"{field} must be a number, not {text!r}"
                    return f"{path}, line {number}: {fault}: correct the line or remove it"
    return None


def _lines(path: str | os.PathLike[str], separator: str, encoding: str | None) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells, up to the first quote: a quoted cell may hold separators and line ends."""
    with open(path, encoding=encoding or "utf-8", errors="replace") as file:
        file.readline()
        for number, line in enumerate(file, start=2):
            if '"' in line:
                return
            if line.strip():  # blank lines are skipped
                yield number, line.rstrip("\n").split(separator)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
