"""A user's own file of items, JSON lines with an ``item_id`` and any text fields -> items."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from dataset_prep.readers.events import named_token
from dataset_prep.readers.items import (
    Item,
    is_missing,
    is_web_address,
    read_items,
    strings,
    web_pictures,
)
from dataset_prep.readers.jsonl import LeaveOut, is_list_of_text
from dataset_prep.readers.rejected import ReasonError, Rejected

_KNOWN = {"item_id", "title", "brand", "category", "genres", "features", "description", "sentences", "images"}
_VALUE_LENGTH = 80  # a value up to here that does not end like a sentence is named by its field: "Year: 1995"


def read_custom(path: str | os.PathLike[str], rejected: Rejected) -> Iterator[Item]:
    """Stream a user's ``--text`` file; see :func:`~dataset_prep.readers.items.read_items` and :func:`custom_item`."""
    return read_items(path, custom_item, rejected)


def custom_item(record: Mapping[str, Any], leave_out: LeaveOut) -> Item:
    """Make an item of a record with ``item_id`` and any of these, each a string or a list of strings.

    - ``sentences``: taken as they are; other text is not used then.
    - ``title``, ``brand``, ``category`` (or ``genres``), ``features``, ``description``.
    - Any other field with text, after them in the order of the file: short values are named by their field
      (``Year: 1995``, ``Cast: Tom Hanks, Tim Allen``), longer ones are text like a description.
    - ``images``: URLs, one a picture.

    Raises:
        ReasonError: no usable ``item_id``, or one of the fields named here is of another type.
    """
    sentences = None
    if not is_missing(record.get("sentences")):
        if not is_list_of_text(record["sentences"]):
            raise ReasonError('"sentences" must be a list of strings')
        sentences = strings(record, "sentences")
    others = [text for field, value in record.items() if field not in _KNOWN for text in _other_text(field, value)]
    return Item(
        item_id=named_token(record, "item_id"),
        title=" ".join(strings(record, "title")),
        brand=", ".join(strings(record, "brand")),
        category=strings(record, "category") or strings(record, "genres"),
        features=strings(record, "features"),
        description=(*strings(record, "description"), *others),
        sentences=sentences,
        pictures=web_pictures([[address] for address in strings(record, "images")], leave_out),
    )


def _other_text(field: str, value: object) -> list[str]:
    """The text of a field that has no meaning of its own here; none if it is not text, or is an address."""
    if not isinstance(value, str) and not is_list_of_text(value):
        return []
    entries = [entry for entry in strings({field: value}, field) if not is_web_address(entry.strip())]
    short = all(len(entry) <= _VALUE_LENGTH and not entry.rstrip().endswith((".", "!", "?")) for entry in entries)
    if not entries or not short:
        return entries
    name = " ".join(field.replace("_", " ").split())
    return [f"{name[:1].upper()}{name[1:]}: {', '.join(entry.strip() for entry in entries)}"]
