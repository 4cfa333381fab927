"""What cannot be used: one exception with its reason, and a counter of reasons with the first few examples."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dataset_prep.readable import displayable

EXAMPLES = 5


class ReasonError(Exception):
    """Something from outside that cannot be used: a record, a cell, a picture, a URL. It is counted, not fatal.

    Attributes:
        reason: one of a few fixed texts, which are counted: ``no "asin"``, ``not valid JSON``.
        detail: what is particular to this one; shown with the examples alone.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail


class Rejected:
    """What a step left out. A summary holds :meth:`as_dict`; the log, :meth:`describe`."""

    def __init__(self) -> None:
        self.by_reason: Counter[str] = Counter()
        self.examples: list[str] = []

    def add(self, where: str, reason: str, detail: str = "") -> None:
        """Count one record.

        Args:
            where: ``file:line``, a path or a URL.
            reason: one of a few fixed texts, which are counted: ``no "asin"``, ``not valid JSON``.
            detail: what is particular to this record; shown with the examples alone.

        All three may hold text from outside: what a terminal would obey is replaced.
        """
        reason = displayable(reason)
        self.by_reason[reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(displayable(f"{where}: {reason}{f' ({detail})' if detail else ''}"))

    @property
    def total(self) -> int:
        """Number of records left out."""
        return self.by_reason.total()

    def as_dict(self) -> dict[str, Any]:
        """``{"total": int, "by_reason": {reason: int}, "examples": [str]}``, commonest reason first."""
        return {"total": self.total, "by_reason": dict(self.by_reason.most_common()), "examples": list(self.examples)}

    def describe(self, of: int, what: str) -> str:
        """One line for the log: ``3 of 1,547 records left out: not valid JSON (2), no "asin" (1); a.json:7: ...``."""
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in self.by_reason.most_common())
        return f"{self.total:,} of {of:,} {what} left out: {reasons}; {'; '.join(self.examples)}"
