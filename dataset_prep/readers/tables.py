"""Events of a user's own file: a table with a header (CSV, TSV), or an atomic file of RecBole."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from dataset_prep.readers.events import Event, checked_time, checked_token
from dataset_prep.readers.lines import read_lines
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
    """Yield the events of a table, gzip or not, in order.

    The first line names the columns. Cells stand between commas, semicolons or bars, with quotes where a cell holds
    one of these or a line break, or between tabs, without quotes. Times are numbers, taken as they stand, or ISO 8601.

    Args:
        rejected: records that cannot be used are counted there, with file and line.
        columns: names of the columns of ``user``, ``item`` and ``timestamp``; what is not given is looked for
            among usual names.

    Raises:
        UserError: the file is empty, or the header lacks a column; or as ``read_lines``.
    """
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        raise UserError(f"{path} is empty: give a table with a header, such as user_id,item_id,timestamp")
    header = first[1].decode("utf-8-sig", errors="surrogateescape")
    separator = max(_SEPARATORS, key=header.count)
    text = chain([header], (line.decode("utf-8", errors="surrogateescape") for _, line in lines))
    rows = csv.reader(text, delimiter=separator, quoting=csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL)
    try:
        names = next(rows)
    except csv.Error as error:
        raise UserError(
            f"{path}:1: the header cannot be read ({error}): is this a table with a line a record?"
        ) from error
    places = _find_columns(names, columns or {}, str(path))
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
            if row is None:
                return
            if not row:  # a blank line
                continue
            event = _event(row, names, places)
        except (ReasonError, csv.Error) as error:
            problem = error if isinstance(error, ReasonError) else ReasonError("not valid CSV", str(error))
            span = f"; goes on to line {rows.line_num}" if rows.line_num > line else ""  # a quote that is not closed?
            rejected.add(f"{path}:{line}", problem.reason, f"{problem.detail}{span}")
        else:
            yield event


def _event(row: Sequence[str], names: Sequence[str], places: Mapping[str, int]) -> Event:
    if len(row) != len(names):
        raise ReasonError("does not have as many cells as the header", f"{len(row)} instead of {len(names)}")
    user, item, timestamp = places["user"], places["item"], places["timestamp"]
    return (
        checked_token(row[user], names[user]),
        checked_token(row[item], names[item]),
        checked_time(row[timestamp], names[timestamp]),
    )


def _find_columns(header: Sequence[str], columns: Mapping[str, str], where: str) -> dict[str, int]:
    """Role -> number of its column."""
    plain = [_ATOMIC_TYPE.sub("", name.strip()) for name in header]
    places = {}
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
                f"{where}: the header has {problem} for the {role} ({wanted}) among {', '.join(map(repr, plain))}: "
                f"say which with columns user=NAME,item=NAME,timestamp=NAME"
            )
        places[role] = found[0]
    return places
