"""Reads a damaged atomic file the slow, literal way: what it must mean, if it means anything.

The rules (docs/your-data.md): UTF-8 without NUL, tab-separated; the first line names and types the columns, each once;
every other line has as many cells; tokens are not empty; times are finite numbers. A line whose user or item is missing
is left out. Where a file is unusual but has one obvious reading (``\\r\\n``, blank lines), a reader may take that or
refuse it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_COLUMNS = ("user_id:token", "item_id:token", "timestamp:float")
_MISSING = {
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
}


@dataclass(frozen=True)
class Reading:
    """What a file says.

    Attributes:
        rows: user, item, time; of the lines that have all three.
        must_be_read: whether refusing the file would be wrong.
    """

    rows: list[tuple[str, str, float]]
    must_be_read: bool


def read(content: bytes) -> Reading | None:
    """The reading of an ``.inter`` file, or ``None`` where it has none and has to be refused."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    plain = "\r" not in text and "\n\n" not in text and not text.startswith("\ufeff")
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    plain = plain and all(line.strip() for line in lines[:-1]) and (not lines[-1] or bool(lines[-1].strip()))
    lines = [line for line in lines if line.strip()]
    if not lines or any("\0" in line or "\r" in line for line in lines):
        return None
    columns = lines[0].split("\t")
    if sorted(columns) != sorted(_COLUMNS):
        plain = False  # a further column may be read or left alone
    if len({column.partition(":")[0] for column in columns}) != len(columns) or not set(_COLUMNS) <= set(columns):
        return None
    places = [columns.index(column) for column in _COLUMNS]
    rows = []
    for line in lines[1:]:
        cells = line.split("\t")
        if len(cells) != len(columns):
            return None
        user, item, time = (cells[place] for place in places)
        if not _is_ordinary(user) or not _is_ordinary(item):
            plain = False
        if user in _MISSING or item in _MISSING:
            plain = False  # left out, or refused
            continue
        number = _number(time)
        if number is None:
            return None
        if not _is_ordinary(time):
            plain = False
        rows.append((user, item, number))
    return Reading(rows, plain)


def _number(text: str) -> float | None:
    try:
        number = float(text.replace("_", "x"))
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < 3.4e38 else None


def _is_ordinary(cell: str) -> bool:
    return cell.isascii() and cell.isalnum()


def write(rows: list[tuple[str, str, float]]) -> bytes:
    """The same rows as a file in which nothing is unusual."""
    lines = ["\t".join(_COLUMNS), *(f"{user}\t{item}\t{time!r}" for user, item, time in rows)]
    return "".join(f"{line}\n" for line in lines).encode()
