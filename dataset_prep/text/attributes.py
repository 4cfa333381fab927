"""What RecBole's atomic file of items holds: attributes for models such as S3Rec, FDSA and DIF-SR."""

from __future__ import annotations

import re

from dataset_prep.readers.items import Item
from dataset_prep.text.clean import plain_text

HEADER = "item_id:token\tclass:token_seq\tbrand:token\n"
_NOT_IN_A_TOKEN = re.compile(r"[\s\"]+")


def attributes_of(item: Item) -> tuple[list[str], str]:
    """The classes (categories, each once) and the brand; "" if there is none.

    One of several words is joined by ``_``, because RecBole splits sequences at spaces.
    """
    return list(dict.fromkeys(filter(None, map(_attribute, item.category)))), _attribute(item.brand)


class AttributeFigures:
    """Makes the file's lines and counts what they hold."""

    def __init__(self) -> None:
        self.items = self.with_class = self.with_brand = 0
        self.classes: set[str] = set()
        self.brands: set[str] = set()

    def line(self, token: str, classes: list[str], brand: str) -> str:
        """``item_id``, ``class``, ``brand`` of one item."""
        self.items += 1
        self.with_class += bool(classes)
        self.with_brand += bool(brand)
        self.classes.update(classes)
        self.brands.update([brand] if brand else [])
        return f"{token}\t{' '.join(classes)}\t{brand}\n"

    def as_dict(self) -> dict[str, int]:
        """``items``, ``with_class``, ``with_brand``, ``classes``, ``brands`` (how many different ones)."""
        return {
            "items": self.items,
            "with_class": self.with_class,
            "with_brand": self.with_brand,
            "classes": len(self.classes),
            "brands": len(self.brands),
        }


def _attribute(text: str) -> str:
    return _NOT_IN_A_TOKEN.sub("_", plain_text(text).strip())
