"""A benchmark's result, as a row of the table and of the JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from recbole_msm4sr.core.files import atomic_text

#: Units of which more is better; of all others (s, MiB, ...) less is.
_RATES = frozenset({"pairs/s", "users/s", "sentences/s", "images/s"})


@dataclass(frozen=True)
class Row:
    """One figure beside its reference.

    Attributes:
        name: what is measured against what.
        unit: of both figures.
        ours: this package's figure; ``None`` where it could not be measured.
        reference: the reference's figure; ``None`` where there is none, and ``details["note"]`` says why.
        details: further keys of the JSON row: spread, steps, roofline, note, ...
    """

    name: str
    unit: str
    ours: float | None
    reference: float | None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times better ours is; below 1 it is worse."""
        if self.ours is None or self.reference is None:
            return None
        better, worse = (self.ours, self.reference) if self.unit in _RATES else (self.reference, self.ours)
        return better / worse

    def as_dict(self) -> dict[str, Any]:
        """name, unit, ours, reference, ratio, then the details."""
        figures = {"name": self.name, "unit": self.unit, "ours": self.ours, "reference": self.reference}
        return {**figures, "ratio": self.ratio, **self.details}


def table(rows: Sequence[Row]) -> str:
    """The rows as text; `of float32`, `of bfloat16`: the fraction of the roofline's rate with that arithmetic."""
    body = []
    for row in rows:
        roofline = row.details.get("roofline", {})
        fractions = [roofline.get(key) for key in ("achieved", "achieved_bfloat16")]
        body.append(
            [
                row.name,
                row.unit,
                _figure(row.ours),
                _figure(row.reference),
                "" if row.ratio is None else f"{row.ratio:.3g}x",
                *("" if fraction is None else f"{fraction:.0%}" for fraction in fractions),
                row.details.get("note", ""),
            ]
        )
    headers = ["benchmark", "unit", "ours", "reference", "ratio", "of float32", "of bfloat16", "note"]
    return tabulate(body, headers, disable_numparse=True, colalign=("left", "left", *["right"] * 5, "left"))


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as a JSON list; whole or not at all."""
    with atomic_text(path) as file:
        file.write(json.dumps([row.as_dict() for row in rows], indent=2) + "\n")


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
