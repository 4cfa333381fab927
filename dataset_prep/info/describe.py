"""What a prepared folder holds, in figures: ``dataset_prep info dataset/Pantry`` and the head of the gallery."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dataset_prep.info.inventory import MODALITIES, Inventory, take_inventory
from dataset_prep.interactions.table_one import CATEGORIES, Sizes, table_one
from dataset_prep.layout import Layout
from dataset_prep.steps.step import read_summary
from recbole_msm4sr.data.feature_store import FeatureStore


def describe(layout: Layout, inventory: Inventory | None = None) -> dict[str, Any]:
    """Figures of any folder of a data set, wherever its parts came from; fits into JSON.

    Args:
        inventory: what :func:`~dataset_prep.info.inventory.take_inventory` found there, if that is known already.

    Returns:
        ``name``, ``path``; ``interactions`` (``users``, ``items``, ``interactions``, ``average_length``, ``density``)
        and ``table_one`` (the same of the paper's data set of that name), each None if there is none; ``items``;
        ``coverage`` by source (see :class:`~dataset_prep.info.inventory.Inventory`): ``items`` with at least one row,
        ``share`` of all items, ``rows``, ``rows_per_covered_item``, ``items_outside`` the ``.inter`` file;
        ``encoders`` by modality (``encoder``, ``revision``, ``dim``, ``options``); ``steps`` in the order they were
        finished (``step``, ``finished``, ``seconds``); ``failures`` (``step``, ``what``, ``total``, ``by_reason``,
        ``examples``); ``disk`` in bytes by entry of the folder; ``absent`` by source; ``problems``.

    Raises:
        UserError: there is no such folder, or nothing of a data set in it.
    """
    inventory = inventory or take_inventory(layout)
    problems = list(inventory.problems)
    summaries = _summaries(layout, problems)
    published = table_one(layout.name)
    interactions = None
    if inventory.interactions is not None and inventory.n_users is not None:
        sizes = Sizes(inventory.n_users, len(inventory.items), int(inventory.interactions.sum()))
        interactions = sizes.as_dict()
    return {
        "name": layout.name,
        "path": str(layout.root),
        "interactions": interactions,
        "table_one": published and {"name": CATEGORIES.get(layout.name, layout.name), **published.as_dict()},
        "items": len(inventory.items),
        "coverage": {source: _coverage(inventory, source) for source in inventory.counts},
        "encoders": {
            modality: _encoder(layout.features(modality))
            for modality in MODALITIES
            if f"{modality} features" in inventory.counts
        },
        "steps": [{key: summary[key] for key in ("step", "finished", "seconds")} for summary in summaries],
        "failures": [
            {"step": summary["step"], **failure} for summary in summaries for failure in _failures(summary["figures"])
        ],
        "disk": _disk(layout.root),
        "absent": {source: str(path.relative_to(layout.root)) for source, path in inventory.absent.items()},
        "problems": problems,
    }


def _coverage(inventory: Inventory, source: str) -> dict[str, Any]:
    counts = inventory.counts[source]
    covered, rows = int(np.count_nonzero(counts)), int(counts.sum())
    return {
        "items": covered,
        "share": round(covered / len(counts), 4) if len(counts) else 0.0,
        "rows": rows,
        "rows_per_covered_item": round(rows / covered, 2) if covered else 0.0,
        "items_outside": inventory.outside[source],
    }


def _encoder(path: Path) -> dict[str, Any]:
    """What made the vectors of a store."""
    manifest = FeatureStore.open(path).manifest
    return {key: manifest.get(key) for key in ("encoder", "revision", "dim", "options")}


def _summaries(layout: Layout, problems: list[str]) -> list[dict[str, Any]]:
    """The summaries of all finished steps, the first finished one first."""
    summaries = []
    for path in sorted(layout.prep.glob("*.json"), key=lambda path: path.lstat().st_mtime_ns):
        if (summary := read_summary(layout, path.stem)) is not None:
            summaries.append(summary)
        else:
            problems.append(f"{path} is damaged, or of another version: the step runs again")
    return sorted(summaries, key=lambda summary: str(summary["finished"]))  # stable: equal seconds by the files' time


def _failures(figures: Mapping[str, Any], what: str = "") -> Iterator[dict[str, Any]]:
    """Whatever a step counted by reason (``Rejected.as_dict``), at any depth of its figures, and what it called it."""
    reasons = figures.get("by_reason")
    if isinstance(reasons, dict):
        counts = {str(reason): count for reason, count in reasons.items() if isinstance(count, int)}
        if counts:
            examples = figures.get("examples")
            shown = [str(example) for example in examples] if isinstance(examples, list) else []
            yield {"what": what, "total": sum(counts.values()), "by_reason": counts, "examples": shown}
        return
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _failures(value, f"{what}: {name}" if what else name)


def _disk(root: Path) -> dict[str, int]:
    """Bytes of every entry of the folder, the largest first."""
    sizes = {entry.name: _size(Path(entry.path)) for entry in os.scandir(root)}
    return dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links count as themselves."""
    if path.is_dir() and not path.is_symlink():
        return sum((Path(parent) / name).lstat().st_size for parent, _, names in os.walk(path) for name in names)
    return path.lstat().st_size
