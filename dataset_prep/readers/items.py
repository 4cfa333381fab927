"""One item with its description, whatever file it comes from, and the loop that reads such files line by line."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dataset_prep.readers.jsonl import LeaveOut, each_line, json_object
from dataset_prep.readers.lines import read_lines
from dataset_prep.readers.rejected import ReasonError, Rejected
from recbole_msm4sr.core.errors import UserError

# Characters of one field that are looked at. Ten sentences need a few thousand; the limit is what keeps the time that a
# broken record takes, and the memory, bounded.
MAX_FIELD = 50_000
_MAX_ADDRESS = 2048  # characters of a URL; servers take no longer ones


@dataclass(frozen=True, slots=True)
class Item:
    """An item as its file describes it: raw text, not cleaned and not split.

    ``pictures`` holds, per picture, the URLs to take it from, best resolution first. ``sentences`` is not None where
    the source has split the text already; the other text is not used then.
    """

    item_id: str
    title: str = ""
    brand: str = ""
    category: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    description: tuple[str, ...] = ()
    sentences: tuple[str, ...] | None = None
    pictures: tuple[tuple[str, ...], ...] = ()


def read_items(
    path: str | os.PathLike[str], parse: Callable[[Mapping[str, Any], LeaveOut], Item], rejected: Rejected
) -> Iterator[Item]:
    """Stream the items of a file of JSON objects, one a line, plain or gzip, in file order. Blank lines are skipped.

    Repeated items are all yielded. A line that cannot be used is counted in ``rejected`` with ``file:line``.

    Args:
        parse: makes an item of a line's object, and says which of its pictures it leaves out.

    Raises:
        UserError: the file cannot be read (see ``read_lines``), or none of its lines is of use.
    """
    before = rejected.total
    n_items = 0
    for item in each_line(
        path, read_lines(path), lambda line, leave_out: parse(json_object(line), leave_out), rejected
    ):
        n_items += 1
        yield item
    if not n_items:
        n_lines = rejected.total - before
        why = rejected.describe(n_lines, "lines") if n_lines else "it is empty"
        raise UserError(f"{path} has no record of an item: {why}. Is it the right file?")


def strings(record: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """A field that is a string or a list of strings, without blank ones; () if it is missing, null or NaN.

    What comes after its first 50,000 characters is left out.

    Raises:
        ReasonError: it is of another type.
    """
    value = record.get(field)
    if is_missing(value):
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(entry, str) for entry in values):
        raise ReasonError(f'"{field}" must be a string or a list of strings', repr(value)[:80])
    kept, room = [], MAX_FIELD
    for entry in values:
        if room <= 0:
            break
        if entry and not entry.isspace():
            kept.append(entry[:room])
            room -= len(entry)
    return tuple(kept)


def is_missing(value: object) -> bool:
    """Whether a field says that there is nothing: null, or the NaN that data frames write for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_web_address(text: str) -> bool:
    """Whether this is an http or https URL with a host."""
    if len(text) > _MAX_ADDRESS or not text.lower().startswith(("http://", "https://")):
        return False
    if " " in text or not text.isprintable():  # control characters, half of a surrogate pair
        return False
    try:
        return bool(urlsplit(text).hostname)
    except ValueError:  # such as an unclosed [ of an IPv6 address
        return False


def web_pictures(pictures: list[list[object]], leave_out: LeaveOut) -> tuple[tuple[str, ...], ...]:
    """Keep the http and https URLs of each picture, without repeats; any other string is never taken for a file.

    Args:
        pictures: per picture, URLs best resolution first; what is missing or empty among them is skipped.
    """
    kept: dict[tuple[str, ...], None] = {}
    for addresses in pictures:
        usable: dict[str, None] = {}
        for address in addresses:
            if is_missing(address) or address == "":
                continue
            if isinstance(address, str) and is_web_address(address.strip()):
                usable[address.strip()] = None
            else:
                leave_out("picture is not an http or https URL", repr(address)[:80])
        if usable:
            kept[tuple(usable)] = None
    return tuple(kept)
