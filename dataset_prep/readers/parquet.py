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


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as Parquet does."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_parquet(
    path: str | os.PathLike[str], find: Callable[[Sequence[str]], Sequence[int]]
) -> tuple[list[str], Iterator[tuple[str, Sequence[object]]]]:
    """The columns' names, and by row ``(file: row number, (user, item, time))``: text, text, number or text.

    Args:
        find: given the names, returns the places of the columns of user, item and time.

    Raises:
        UserError: the file is damaged, or one of the columns cannot hold users, items or times.
    """
    connection = duckdb.connect(":memory:")
    source = glob.escape(str(path))
    try:
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [source]).fetchall()
    except duckdb.Error as error:
        raise _damaged(path, error) from error
    names, types = [row[0] for row in described], [row[1] for row in described]
    user, item, time = find(names)
    tokens = [_as_token(path, names[place], types[place]) for place in (user, item)]
    chosen = ", ".join([*tokens, _as_time(path, names[time], types[time])])

    def rows() -> Iterator[tuple[str, Sequence[object]]]:
        number = 0
        try:
            found = connection.execute(f"SELECT {chosen} FROM read_parquet(?)", [source])
            while batch := found.fetchmany(_ROWS_AT_A_TIME):
                for row in batch:
                    number += 1
                    yield f"{path}: row {number}", row
        except duckdb.Error as error:
            raise _damaged(path, error) from error
        finally:
            connection.close()

    return names, rows()


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
