"""The rows of a Parquet file, read by DuckDB."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence

import duckdb

from recbole_msm4sr.core.errors import UserError

_MAGIC = b"PAR1"
_ROWS_AT_A_TIME = 50_000
_WHOLE_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
_NUMBER = re.compile(rf"{_WHOLE_NUMBER.pattern}|FLOAT|DOUBLE|DECIMAL\(.*\)")
_MOMENT = re.compile(r"DATE|TIMESTAMP.*")
Rows = Iterator[tuple[str, Sequence[object]]]


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as Parquet does."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def open_parquet(path: str | os.PathLike[str]) -> tuple[list[str], Callable[[Sequence[int]], Rows]]:
    """The columns' names, and a function that reads three of them: given the places of user, item and time, it yields
    by row ``(file: row number, (text, text, number or text))``.

    Raises:
        UserError: the file is damaged; when it is read also if a column cannot hold users, items or times.
    """
    connection = duckdb.connect(":memory:")
    source = [glob.escape(str(path))]
    try:
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", source).fetchall()
    except duckdb.Error as error:
        raise _damaged(path, error) from error

    def rows(places: Sequence[int]) -> Rows:
        user, item, time = (described[place][:2] for place in places)
        chosen = f"{_as_token(path, *user)}, {_as_token(path, *item)}, {_as_time(path, *time)}"
        number = 0
        try:
            found = connection.execute(f"SELECT {chosen} FROM read_parquet(?)", source)
            while batch := found.fetchmany(_ROWS_AT_A_TIME):
                for row in batch:
                    number += 1
                    yield f"{path}: row {number}", row
        except duckdb.Error as error:
            raise _damaged(path, error) from error
        finally:
            connection.close()

    return [column[0] for column in described], rows


def _as_token(path: str | os.PathLike[str], name: str, kind: str) -> str:
    if kind != "VARCHAR" and not _WHOLE_NUMBER.fullmatch(kind):
        raise UserError(f"{path}: column {name!r} holds {kind[:80]}: store users and items as text or whole numbers")
    return f"CAST({_quoted(name)} AS VARCHAR)"


def _as_time(path: str | os.PathLike[str], name: str, kind: str) -> str:
    if _MOMENT.fullmatch(kind):
        return f"epoch({_quoted(name)})"
    if _NUMBER.fullmatch(kind):
        return f"CAST({_quoted(name)} AS DOUBLE)"
    if kind != "VARCHAR":
        raise UserError(f"{path}: column {name!r} holds {kind[:80]}: store times as numbers, dates or ISO 8601 text")
    return _quoted(name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _damaged(path: str | os.PathLike[str], error: duckdb.Error) -> UserError:
    cause = " ".join(str(error).split("\n\n")[0].split())[:200]
    return UserError(f"{path} cannot be read as Parquet ({cause}): it is damaged or cut off; write or fetch it again")
