"""Table I of the paper: the sizes of its data sets."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """How large a data set is."""

    users: int
    items: int
    interactions: int

    @property
    def average_length(self) -> float:
        """Interactions a user, table I's "Avg. n"; 0 without users."""
        return self.interactions / self.users if self.users else 0.0

    @property
    def density(self) -> float:
        """Share of the pairs of a user and an item that are interactions, repeats included; 0 if there are no pairs."""
        return self.interactions / (self.users * self.items) if self.users * self.items else 0.0

    def distance(self, other: Sizes) -> float:
        """Mean of ``|ln(a / b)|`` over users, items and interactions: 0 if equal, 0.1 if all are about 10 % off."""
        pairs = ((self.users, other.users), (self.items, other.items), (self.interactions, other.interactions))
        return sum(abs(math.log(a / b)) if a and b else math.inf for a, b in pairs) / len(pairs)

    def as_dict(self) -> dict[str, float]:
        """``users``, ``items``, ``interactions``, ``average_length`` (2 decimals) and ``density``, for a summary."""
        return {
            "users": self.users,
            "items": self.items,
            "interactions": self.interactions,
            "average_length": round(self.average_length, 2),
            "density": round(self.density, 8),
        }


TABLE_ONE = {
    "Pantry": Sizes(13_614, 7_670, 131_311),
    "Arts": Sizes(32_216, 52_557, 264_465),
    "Office": Sizes(68_224, 59_705, 527_209),
}
#: The 2018 release's names of the same categories.
CATEGORIES = {"Prime_Pantry": "Pantry", "Arts_Crafts_and_Sewing": "Arts", "Office_Products": "Office"}


def table_one(name: str) -> Sizes | None:
    """Table I's row of a data set (``Pantry``) or of a category (``Prime_Pantry``); None if it has none.

    The paper used the 2018 release; categories of the same name in others are other data.
    """
    return TABLE_ONE.get(CATEGORIES.get(name, name))
