"""JSON lines: one parser for all of them, and the data set's own files, one item a line, each with an ``item_id``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from dataset_prep.readers.lines import read_lines
from dataset_prep.readers.rejected import ReasonError, Rejected
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_text
from recbole_msm4sr.data.tokens import token_problem

Made = TypeVar("Made")
#: Called with reason and detail where a part of a record is left out.
LeaveOut = Callable[[str, str], None]


class _WithRepeatedKey(dict[str, Any]):
    """An object that names a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _WithRepeatedKey(pairs)


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def json_object(line: bytes) -> dict[str, Any]:
    """The object that a line of JSON is. Some editors start a file with a byte order mark: it is skipped.

    Raises:
        ReasonError: it is not UTF-8, not JSON or another value than an object, or it names a key twice.
    """
    try:
        record = _DECODER.decode(line.decode("utf-8-sig").strip())
    except UnicodeDecodeError as error:
        raise ReasonError("not UTF-8", error.reason) from error
    except json.JSONDecodeError as error:
        raise ReasonError("not valid JSON", f"{error.msg}, column {error.colno}") from error
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        raise ReasonError("not valid JSON", str(error)[:80]) from error
    if isinstance(record, _WithRepeatedKey):
        raise ReasonError("names a key twice")
    if not isinstance(record, dict):
        raise ReasonError("not a JSON object", type(record).__name__)
    return record


def each_line(
    path: str | os.PathLike[str],
    lines: Iterable[tuple[int, bytes]],
    parse: Callable[[bytes, LeaveOut], Made],
    rejected: Rejected,
) -> Iterator[Made]:
    """What ``parse`` makes of each line that is not blank; a line that it cannot use is counted with ``file:line``."""
    number = 0

    def leave_out(reason: str, detail: str) -> None:
        rejected.add(f"{path}:{number}", reason, detail)

    for line_number, line in lines:
        number = line_number
        if line.isspace():
            continue
        try:
            made = parse(line, leave_out)
        except ReasonError as problem:
            leave_out(problem.reason, problem.detail)
        else:
            yield made


def read_records(path: str | os.PathLike[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield ``(where, item_id, record)`` for every line that is not blank, in order.

    ``where`` is ``file:line``, for messages about what the record holds.

    Raises:
        UserError: the file cannot be read (see :func:`read_lines`), a line is not a JSON object, ``item_id`` is missing
            or cannot be a token, or an item occurs twice. The message names the file and the line.
    """
    first_line: dict[str, int] = {}
    for number, line in read_lines(path):
        if line.isspace():
            continue
        where = f"{path}:{number}"
        try:
            record = json_object(line)
        except ReasonError as error:
            raise UserError(f'{where}: {error}: give one object a line, UTF-8, as {{"item_id": "1", ...}}') from error
        item_id = _item_id(record, where)
        if item_id in first_line:
            raise UserError(
                f"{where}: item {item_id[:80]!r} stands on line {first_line[item_id]} already: keep one line an item"
            )
        first_line[item_id] = number
        yield where, item_id, record


def write_records(path: str | os.PathLike[str], records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines, UTF-8, through a temporary file: the file is whole or is not there."""
    with atomic_text(path) as file:
        file.writelines(map(json_line, records))


def json_line(record: Mapping[str, Any]) -> str:
    """A record as a line of a file, with its line break."""
    return json.dumps(record, ensure_ascii=False) + "\n"


def read_image_keywords(path: str | os.PathLike[str]) -> dict[str, list[list[str]]]:
    """Read ``image_keywords.jsonl``: item -> one list of words per picture, best word first.

    A missing ``keywords`` means no pictures, as an empty list does.

    Raises:
        UserError: as :func:`read_records` and :func:`record_keywords`.
    """
    return {item_id: record_keywords(record, where) for where, item_id, record in read_records(path)}


def record_keywords(record: Mapping[str, Any], where: str) -> list[list[str]]:
    """A line of ``image_keywords.jsonl`` -> one list of words per picture, which may be empty.

    Raises:
        UserError: ``keywords`` is not a list of lists of strings.
    """
    keywords = record.get("keywords") or []
    if not isinstance(keywords, list) or not all(is_list_of_text(words) for words in keywords):
        raise UserError(f'{where}: "keywords" must be a list with one list of words per picture')
    return keywords


def is_list_of_text(value: object) -> bool:
    """Whether ``value`` is a list of nothing but strings."""
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _item_id(record: dict[str, Any], where: str) -> str:
    if "item_id" not in record:
        raise UserError(f'{where}: has no "item_id": add the token that the .inter file uses for the item')
    item_id = record["item_id"]
    if problem := token_problem(item_id):
        raise UserError(
            f'{where}: "item_id" is {repr(item_id)[:80]}, which {problem}: give the token of the .inter file'
        )
    return item_id
