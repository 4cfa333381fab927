"""Which events stay in the data set, and how much memory may be used to find out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from recbole_msm4sr.core.errors import UserError

MEMORY = "50%"
_MEMORY_FORM = re.compile(r"[1-9]\d*(\.\d+)? ?([KMGT]i?B|%)", re.IGNORECASE)
REPEATS = ("all", "distinct", "first", "last")


@dataclass(frozen=True)
class Rules:
    """Applied in the order of the fields, ``item_set`` first. The default is the paper's: users with 5 events or more.

    Attributes:
        item_set: name of a set of items (those with text, say); events with other items go. None: all items.
        repeats: of a user's events with the same item ``all`` stay, or all but exact duplicates, those of equal time
            (``distinct``: the releases list some reviews twice), or only the ``first`` or the ``last`` in time; of
            equal times the first in the file, ``last``: the last.
        min_user: users with fewer events go.
        min_item: items with fewer events go, after the users.
        to_fixed_point: repeat the last two until neither removes anything (the k-core); else each is applied once.
    """

    item_set: str | None = None
    repeats: str = "distinct"
    min_user: int = 5
    min_item: int = 0
    to_fixed_point: bool = True

    def __post_init__(self) -> None:
        if self.repeats not in REPEATS:
            raise UserError(f"repeats is {self.repeats!r}: it must be one of {', '.join(REPEATS)}")
        for name in ("min_user", "min_item"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be 0 or more")

    def describe(self) -> str:
        """In words: ``items with text; repeats: first; users >= 5, items >= 5, to a fixed point``."""
        parts = [f"items with {self.item_set}"] if self.item_set is not None else []
        parts.append(self.describe_repeats())
        core = f"users >= {self.min_user}"
        if self.min_item:
            core += f", items >= {self.min_item}, {'to a fixed point' if self.to_fixed_point else 'once'}"
        return "; ".join([*parts, core])

    def describe_core(self) -> str:
        """In words, what the rules on users and items leave in the end: ``items >= 5`` where each is applied once."""
        if not self.to_fixed_point:
            return f"items >= {self.min_item}"
        return f"users >= {self.min_user} and items >= {self.min_item}, to a fixed point"

    def describe_repeats(self) -> str:
        """In words: ``repeats: distinct``."""
        return f"repeats: {self.repeats}"


def candidate_rules(item_sets: Iterable[str] = ()) -> list[Rules]:
    """The rules that are tried to come near table I, which the paper describes as '"5-core" subsets'; plainest first.

    All items or those of one of ``item_sets``; all repeats but exact duplicates, all, or the first; users with 5
    events, or the 5-core of users and items.
    """
    return [
        Rules(item_set, repeats, 5, min_item)
        for item_set in (None, *item_sets)
        for repeats in ("distinct", "all", "first")
        for min_item in (0, 5)
    ]


def check_memory(memory: str) -> None:
    """Raise a ``UserError`` unless this is an amount of memory: ``4GB``, ``500MiB``, ``50%`` of the machine's."""
    if not _MEMORY_FORM.fullmatch(memory) or (memory.endswith("%") and float(memory[:-1]) > 100):
        raise UserError(f"memory is {memory!r}: give a size such as 4GB or 500MiB, or a share of the machine's, 50%")
