"""Events of a user's own file: a table with a header (CSV, TSV), an atomic file of RecBole, or Parquet."""

from __future__ import annotations

import csv
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from dataset_prep.readable import displayable
from dataset_prep.readers.events import Event, checked_time, checked_token
from dataset_prep.readers.lines import read_lines
from dataset_prep.readers.parquet import is_parquet, open_parquet
from dataset_prep.readers.rejected import ReasonError, Rejected
from recbole_msm4sr.core.errors import UserError

#: What columns are commonly called, in lower case and without marks; a name further left is taken first.
USUAL_NAMES = {
    "user": ("userid", "user", "uid", "reviewerid", "customerid", "memberid", "visitorid"),
    "item": ("itemid", "item", "iid", "parentasin", "asin", "productid", "product", "movieid", "articleid", "sku"),
    "timestamp": ("timestamp", "time", "unixreviewtime", "unixtime", "ts", "datetime", "date", "createdat"),
}
_SEPARATORS = "\t,;|"
_ATOMIC_TYPE = re.compile(r":(token|token_seq|float|float_seq)$")
#: Where a record starts, and its cells or why they cannot be read.
_Record = tuple[str, Sequence[object] | ReasonError]


def parse_columns(text: str) -> dict[str, str]:
    """``user=who,item=what,timestamp=when`` -> ``{"user": "who", ...}``; any of the three may be left out.

    Raises:
        UserError: the text has another form.
    """
    columns = {}
    for part in text.split(","):
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if role not in USUAL_NAMES or not equals or not name or role in columns:
            raise UserError(
                f"columns {text!r}: {part!r} is not one of user=NAME, item=NAME, timestamp=NAME, each at most once"
            )
        columns[role] = name
    return columns


def table_events(
    path: str | os.PathLike[str], rejected: Rejected, columns: Mapping[str, str] | None = None
) -> Iterator[Event]:
    """Yield the events of a table, in order: text, gzip or not, or Parquet, which its first bytes tell.

    The first line of text names the columns. Cells stand between commas, semicolons or bars, with quotes where a cell
    holds one of these or a line break, or between tabs, without quotes. Times are numbers, taken as they stand, or ISO
    8601; in Parquet dates and time stamps, too.

    Args:
        rejected: records that cannot be used are counted there, with file and line or row.
        columns: names of the columns of ``user``, ``item`` and ``timestamp``; what is not given is looked for
            among usual names.

    Raises:
        UserError: the file is empty or damaged, the header lacks a column or has it twice, or a column of Parquet is of
            a type that it cannot have; or as ``read_lines``.
    """
    names, places, records = (_from_parquet if is_parquet(path) else _from_text)(path, columns or {})
    user, item, timestamp = (names[place] for place in places)
    for where, cells in records:
        try:
            if isinstance(cells, ReasonError):
                raise cells
            event = checked_token(cells[0], user), checked_token(cells[1], item), checked_time(cells[2], timestamp)
        except ReasonError as problem:
            rejected.add(where, problem.reason, problem.detail)
        else:
            yield event


def _from_parquet(
    path: str | os.PathLike[str], columns: Mapping[str, str]
) -> tuple[list[str], list[int], Iterator[_Record]]:
    names, rows = open_parquet(path)
    places = _find_columns(names, columns, str(path))
    return names, places, rows(places)


def _from_text(
    path: str | os.PathLike[str], columns: Mapping[str, str]
) -> tuple[list[str], list[int], Iterator[_Record]]:
    lines = _Lines((number, line.decode("utf-8", errors="surrogateescape")) for number, line in read_lines(path))
    header = next(lines, (1, ""))[1].removeprefix("\ufeff")
    if not header:
        raise UserError(f"{path} is empty: give a table with a header, such as user_id,item_id,timestamp")
    separator = max(_SEPARATORS, key=header.count)
    names = _cells([header], separator)
    if isinstance(names, ReasonError):
        raise UserError(f"{path}:1: the header cannot be read ({names}): is this a table with a line a record?")
    places = _find_columns(names, columns, str(path))
    return names, places, _records(path, lines, separator, len(names), places)


class _Lines:
    """Numbered lines, of which the last ones can be put back."""

    def __init__(self, lines: Iterable[tuple[int, str]]) -> None:
        self._lines = iter(lines)
        self._again: deque[tuple[int, str]] = deque()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> tuple[int, str]:
        return self._again.popleft() if self._again else next(self._lines)

    def noted(self, taken: list[tuple[int, str]]) -> Iterator[str]:
        """The lines' text; each that is asked for is noted in ``taken``."""
        for line in self:
            taken.append(line)
            yield line[1]

    def put_back(self, taken: list[tuple[int, str]]) -> None:
        """Yield these once more, before the others."""
        self._again.extendleft(reversed(taken))


def _records(
    path: str | os.PathLike[str], lines: _Lines, separator: str, n_columns: int, places: Sequence[int]
) -> Iterator[_Record]:
    """The cells of user, item and time of every record; a stray quote costs its own line alone.

    A quote that begins a cell goes on over line breaks until it is closed. Where that makes no record, or puts a line
    break into one of the three cells, the quote was a stray one: the lines after the first are read again.
    """
    for number, line in lines:
        taken: list[tuple[int, str]] = []
        cells = _cells(chain([line], lines.noted(taken)), separator)
        if not cells:  # a blank line
            continue
        if not isinstance(cells, ReasonError):
            if len(cells) == n_columns:
                cells = [cells[place] for place in places]
            else:
                detail = f"{len(cells)} instead of {n_columns}"
                cells = ReasonError("does not have as many cells as the header", detail)
        if taken and (isinstance(cells, ReasonError) or any("\n" in cell for cell in cells)):
            lines.put_back(taken)
            cells = ReasonError("not valid CSV", "a quote is not closed")
        yield f"{path}:{number}", cells


def _cells(lines: Iterable[str], separator: str) -> list[str] | ReasonError:
    """The cells of the first record; more than its first line is taken only while a quote is open. Blank: none."""
    lines = iter(lines)
    line = next(lines)
    content = line.rstrip("\r\n")
    if '"' not in content or separator == "\t":
        if "\r" in content:
            return ReasonError("not valid CSV", "a carriage return inside a line")
        if len(content) > csv.field_size_limit():
            return ReasonError("not valid CSV", f"a line of more than {csv.field_size_limit():,} characters")
        return content.split(separator) if content else []
    try:
        return next(csv.reader(chain([line], lines), delimiter=separator, strict=True))
    except csv.Error as error:
        return ReasonError("not valid CSV", str(error))


def _find_columns(header: Sequence[str], columns: Mapping[str, str], where: str) -> list[int]:
    """The places of the columns of user, item and time."""
    plain = [_ATOMIC_TYPE.sub("", name.strip()) for name in header]
    places = []
    for role, usual in USUAL_NAMES.items():
        if role in columns:
            wanted = columns[role]
            found = [place for place, name in enumerate(plain) if wanted in (name, header[place])]
        else:
            wanted = "such as " + ", ".join(usual[:3])
            simple = [re.sub(r"[\W_]", "", name).lower() for name in plain]
            found = next(([i for i, name in enumerate(simple) if name == a] for a in usual if a in simple), [])
        if len(found) != 1:
            problem = "two columns" if found else "no column"
            raise UserError(
                f"{where}: the header has {problem} for the {role} ({wanted}) among "
                f"{displayable(', '.join(map(repr, plain)))}: say which with columns user=NAME,item=NAME,timestamp=NAME"
            )
        if found[0] in places:
            raise UserError(
                f"{where}: the column {header[found[0]]!r} is taken for the {role} and for another: name three"
            )
        places.append(found[0])
    return places
