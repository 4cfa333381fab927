"""RecBole's atomic file of items: attributes for models such as S3Rec, FDSA and DIF-SR."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from dataset_prep.readers.items import Item
from dataset_prep.text.clean import plain_text
from recbole_msm4sr.core.files import atomic_file

_NOT_IN_A_TOKEN = re.compile(r"[\s\"]+")


def write_item_file(path: Path, items: Iterable[Item], tokens: Collection[str]) -> dict[str, Any]:
    """Write ``item_id:token``, ``class:token_seq`` (categories) and ``brand:token`` of the items in ``tokens``.

    A category or brand of several words is joined by ``_``, for RecBole parts sequences at spaces. An item's first
    record is used; items without one get a line with empty attributes.

    Returns:
        Figures: ``items``, ``with_class``, ``with_brand``, ``classes``, ``brands`` (how many different ones).
    """
    remaining = dict.fromkeys(tokens)
    classes: set[str] = set()
    brands: set[str] = set()
    with_class = with_brand = 0
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write("item_id:token\tclass:token_seq\tbrand:token\n")
        for item in items:
            if item.item_id not in remaining:
                continue
            del remaining[item.item_id]
            own = list(dict.fromkeys(filter(None, map(_attribute, item.category))))
            brand = _attribute(item.brand)
            classes.update(own)
            brands.update([brand] if brand else [])
            with_class += bool(own)
            with_brand += bool(brand)
            file.write(f"{item.item_id}\t{' '.join(own)}\t{brand}\n")
        file.writelines(f"{token}\t\t\n" for token in remaining)
    return {
        "items": len(dict.fromkeys(tokens)),
        "with_class": with_class,
        "with_brand": with_brand,
        "classes": len(classes),
        "brands": len(brands),
    }


def _attribute(text: str) -> str:
    return _NOT_IN_A_TOKEN.sub("_", plain_text(text).strip())
