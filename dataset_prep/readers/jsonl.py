"""The intermediate files: JSON lines, one item a line, each with an ``item_id``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_file
from recbole_msm4sr.data.tokens import token_problem


def read_records(path: str | os.PathLike[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield ``(where, item_id, record)`` for every line that is not blank, in order.

    ``where`` is ``file:line``, for messages about what the record holds.

    Raises:
        UserError: the file is missing, is not UTF-8, a line is not a JSON object, ``item_id`` is missing or is no
            usable string, or an item occurs twice. The message names the file and the line.
    """
    source = Path(path)
    if not source.is_file():
        raise UserError(f"{source} is not a file: give a file of JSON lines, one item a line")
    first_line: dict[str, int] = {}
    with open(source, "rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{source}:{number}"
            if not line.strip():
                continue
            record = _parse(line, where)
            item_id = _item_id(record, where)
            if item_id in first_line:
                raise UserError(
                    f"{where}: item {item_id!r} stands on line {first_line[item_id]} already: keep one line an item"
                )
            first_line[item_id] = number
            yield where, item_id, record


def write_records(path: str | os.PathLike[str], records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines, UTF-8, through a temporary file: the file is whole or is not there."""
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


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


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"))  # some editors start a file with a byte order mark
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: is not UTF-8 text ({error.reason}): convert the file to UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: is not valid JSON ({error.msg}, column {error.colno}): mend the line") from error
    if not isinstance(record, dict):
        raise UserError(f'{where}: is a JSON {type(record).__name__}, not an object such as {{"item_id": "1", ...}}')
    return record


def _item_id(record: dict[str, Any], where: str) -> str:
    if "item_id" not in record:
        raise UserError(f'{where}: has no "item_id": add the token that the .inter file uses for the item')
    item_id = record["item_id"]
    if problem := token_problem(item_id):
        raise UserError(f'{where}: "item_id" is {item_id!r}, which {problem}: give the token of the .inter file')
    return item_id
