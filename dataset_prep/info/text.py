"""The figures of a prepared folder as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from dataset_prep.readable import difference, displayable, percent, seconds_as_text, size_as_text

_FIGURES = {"users": ",", "items": ",", "interactions": ",", "average_length": ".2f"}


def describe_as_text(described: Mapping[str, Any]) -> str:
    """A page of aligned lines from what :func:`~dataset_prep.info.describe.describe` returns."""
    sections = [
        displayable(f"{described['name']}  ({described['path']})"),
        _interactions(described),
        _coverage(described),
        _encoders(described),
        _failures(described),
        _steps(described),
        _disk(described),
        _list("not there", [f"{source}: {path}" for source, path in described["absent"].items()]),
        _list("problems", described["problems"]),
    ]
    return "\n\n".join(section for section in sections if section)


def _interactions(described: Mapping[str, Any]) -> str:
    here, paper = described["interactions"], described["table_one"]
    if here is None:
        return f"{described['items']:,} items, no interactions"
    headers = ["", "here"]
    rows = [[name.replace("_", " "), format(here[name], form)] for name, form in _FIGURES.items()]
    if paper is not None:
        headers += [f"table I, {paper['name']}", "difference"]
        for row, (name, form) in zip(rows, _FIGURES.items(), strict=True):
            row += [format(paper[name], form), difference(here[name], paper[name])]
    return _table(headers, rows)


def _coverage(described: Mapping[str, Any]) -> str:
    rows = [
        [
            source,
            f"{entry['items']:,}",
            percent(entry["share"]),
            f"{entry['rows']:,}",
            f"{entry['rows_per_covered_item']:.2f}",
            f"{entry['items_outside']:,}",
        ]
        for source, entry in described["coverage"].items()
    ]
    headers = [f"of {described['items']:,} items", "have some", "share", "rows", "rows an item", "of other items"]
    return _table(headers, rows)


def _encoders(described: Mapping[str, Any]) -> str:
    rows = []
    for modality, entry in described["encoders"].items():
        given = entry["options"] if isinstance(entry["options"], dict) else {}
        options = ", ".join(f"{key}={value}" for key, value in given.items())
        rows.append([modality, entry["encoder"], entry["revision"] or "-", entry["dim"], options or "-"])
    return _table(["features", "encoder", "revision", "dim", "options"], rows)


def _failures(described: Mapping[str, Any]) -> str:
    lines = []
    for failure in described["failures"]:
        name = f"{failure['step']}: {failure['what']}" if failure["what"] else failure["step"]
        lines.append(f"{name}, {failure['total']:,}")
        lines += [f"{count:>11,}  {reason}" for reason, count in failure["by_reason"].items()]
        lines += [f"{'such as':>11}  {example[:200]}" for example in failure["examples"]]
    return _list("left out or failed", lines)


def _steps(described: Mapping[str, Any]) -> str:
    rows = [[step["step"], step["finished"], seconds_as_text(step["seconds"])] for step in described["steps"]]
    return _table(["step", "finished", "took"], rows)


def _disk(described: Mapping[str, Any]) -> str:
    sizes = described["disk"]
    rows = [[name, size_as_text(size)] for name, size in sizes.items()]
    return _table(["disk", size_as_text(sum(sizes.values()))], rows)


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n  ".join([title, *map(displayable, lines)]) if lines else ""


def _table(headers: list[str], rows: list[list[Any]]) -> str:
    """Aligned columns: figures to the right, words to the left; "" without rows."""
    if not rows:
        return ""
    rows = [[displayable(str(cell)) for cell in row] for row in rows]
    alignment = [
        "right" if all(row[column][:1] in "+-<>0123456789" for row in rows) else "left"
        for column in range(len(headers))
    ]
    return tabulate(rows, headers, tablefmt="plain", disable_numparse=True, colalign=alignment)
