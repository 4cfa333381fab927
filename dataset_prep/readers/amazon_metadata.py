"""Metadata of the Amazon review releases of 2018 and 2023 -> items."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from dataset_prep.readers.events import named_token
from dataset_prep.readers.items import (
    Item,
    is_missing,
    read_items,
    strings,
    web_pictures,
)
from dataset_prep.readers.jsonl import LeaveOut, json_object
from dataset_prep.readers.rejected import ReasonError, Rejected

# "._SX38_SY50_CR,0,0,38,50_.jpg" asks the picture server for a thumbnail; without it, it sends the picture itself.
_THUMBNAIL = re.compile(r"\._[^/]{0,100}_(?=\.[A-Za-z]{1,5}$)")
_RESOLUTIONS = ("hi_res", "large", "thumb")
# What product pages write for a brand.
_BYLINE = re.compile(
    r"\s*(?:by\s*\n\s*(.+)|brand:\s*(.+)|visit the (.+) store|visit amazon's (.+) page)\s*", re.IGNORECASE | re.DOTALL
)
_BYLINE_LENGTH = 200
_MARKUP_ALONE = re.compile(r"\s*(?:<[^<>]*>\s*)+")
_CATEGORY_WORDS = 8


def read_amazon_2018(path: str | os.PathLike[str], rejected: Rejected) -> Iterator[Item]:
    """Stream ``meta_<Category>.json.gz`` of the 2018 release; see :func:`~dataset_prep.readers.items.read_items`.

    A picture's URLs are the one of ``imageURLHighRes``, then the one of ``imageURL`` (``image`` in older files)
    without its thumbnail's size, then as it stands.
    """
    return read_items(path, _parse_2018, rejected)


def read_amazon_2023(path: str | os.PathLike[str], rejected: Rejected) -> Iterator[Item]:
    """Stream ``meta_<Category>.jsonl.gz`` of the 2023 release; see :func:`~dataset_prep.readers.items.read_items`.

    ``images`` may be a list of pictures, ``{"hi_res": url, "large": url, "thumb": url}``, or one such object with a
    list for each resolution: both are in circulation.
    """
    return read_items(path, _parse_2023, rejected)


def _parse_2018(record: Mapping[str, Any], leave_out: LeaveOut) -> Item:
    small = _urls(record, "imageURL") or _urls(record, "image")
    large = _urls(record, "imageURLHighRes")
    pictures = [
        [high, _THUMBNAIL.sub("", low) if isinstance(low, str) else low, low] for high, low in zip_longest(large, small)
    ]
    category, leaked = _category_path(strings(record, "category"))
    return Item(
        item_id=named_token(record, "asin"),
        title=" ".join(strings(record, "title")),
        brand=_brand(strings(record, "brand")),
        category=category or strings(record, "main_cat"),
        features=(*strings(record, "feature"), *leaked),
        description=strings(record, "description"),
        pictures=web_pictures(pictures, leave_out),
    )


def _parse_2023(record: Mapping[str, Any], leave_out: LeaveOut) -> Item:
    return Item(
        item_id=named_token(record, "parent_asin"),
        title=" ".join(strings(record, "title")),
        brand=_brand(strings(record, "store") or strings(_details(record), "Brand")),
        category=strings(record, "categories") or strings(record, "main_category"),
        features=strings(record, "features"),
        description=strings(record, "description"),
        pictures=web_pictures(_images_2023(record.get("images")), leave_out),
    )


def _category_path(entries: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a ``category`` list into the category's path and what leaked into it from the product's features.

    The leak of the 2018 release starts with an entry that is markup alone (``</span></span></span>``), or with a
    sentence: it ends like one or has more than 8 words.
    """
    for position, entry in enumerate(entries):
        if _MARKUP_ALONE.fullmatch(entry):
            return entries[:position], entries[position + 1 :]
        if entry.rstrip().endswith((".", "!", "?")) or len(entry.split()) > _CATEGORY_WORDS:
            return entries[:position], entries[position:]
    return entries, ()


def _brand(names: tuple[str, ...]) -> str:
    """The brand of a byline: ``by\\n  Acme``, ``Brand: Acme`` and ``Visit the Acme Store`` are ``Acme``."""
    name = ", ".join(names)
    found = _BYLINE.fullmatch(name) if len(name) <= _BYLINE_LENGTH else None
    return found[found.lastindex or 0] if found else name


def _urls(record: Mapping[str, Any], field: str) -> list[object]:
    value = record.get(field)
    if is_missing(value):
        return []
    if not isinstance(value, str | list):
        raise ReasonError(f'"{field}" must be a URL or a list of URLs', repr(value)[:80])
    return [value] if isinstance(value, str) else value


def _images_2023(images: object) -> list[list[object]]:
    """Per picture its URLs, best first, from either form of ``images``."""
    if is_missing(images):
        return []
    if isinstance(images, list) and all(isinstance(picture, dict) for picture in images):
        return [[picture.get(resolution) for resolution in _RESOLUTIONS] for picture in images]
    if isinstance(images, dict):
        columns = [_urls(images, resolution) for resolution in _RESOLUTIONS]
        return [list(addresses) for addresses in zip_longest(*columns)]
    raise ReasonError('"images" must be a list of objects, or an object of lists', repr(images)[:80])


def _details(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The product's table of details: an object, or one as JSON text; empty if it is anything else."""
    details = record.get("details")
    if isinstance(details, str):
        try:
            return json_object(details.encode("utf-8", "replace"))
        except ReasonError:
            return {}
    return details if isinstance(details, dict) else {}
