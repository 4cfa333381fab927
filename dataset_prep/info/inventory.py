"""What a prepared folder holds of every item, in counts: interactions, sentences, pictures, words, vectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import is_list_of_text, read_records, record_keywords
from dataset_prep.text.sentences import record_sentences
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_store import FeatureStore

_USER, _ITEM = "user_id:token", "item_id:token"
_LINES_AT_A_TIME = 1_000_000
_ALL = 1 << 62  # no limit on an item's sentences: what the file holds is counted

# The sources of each modality, the nearest to the raw data first.
MODALITIES = {"text": ("sentences", "text features"), "image": ("pictures", "words", "image features")}


@dataclass
class Inventory:
    """Counts over the items of the ``.inter`` file, or over those of all other files where there is none.

    Attributes:
        items: the tokens.
        n_users: number of users; None without interactions.
        interactions: int64 ``[n_items]``, how often each item occurs; None without interactions.
        counts: by source (``sentences``, ``pictures``, ``words``, ``text features``, ``image features``), int64
            ``[n_items]``; words are counted by the pictures that have some. A source that is not there is left out.
        outside: by source, how many items it has that the ``.inter`` file lacks.
        absent: by source, the path where it would lie.
        problems: one line on every file that is there and cannot be read.
    """

    items: list[str] = field(default_factory=list)
    n_users: int | None = None
    interactions: NDArray[np.int64] | None = None
    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    absent: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def lacks(self, modality: str) -> NDArray[np.bool_]:
        """Which items have nothing of ``text`` or ``image`` in any source, bool ``[n_items]``."""
        counts = [self.counts[source] for source in MODALITIES[modality] if source in self.counts]
        return np.sum(counts, axis=0) == 0 if counts else np.zeros(len(self.items), dtype=np.bool_)


def take_inventory(layout: Layout) -> Inventory:
    """Read every file of the folder that is there; each is read once, in memory of the order of the items.

    Raises:
        UserError: there is no such folder, or nothing of a data set in it. A file that cannot be read is no error:
            it is named in ``problems``.
    """
    if not layout.root.is_dir():
        raise UserError(f"{layout.root} is not a folder: name the folder of a prepared data set, dataset/NAME")
    inventory = Inventory()
    position = _read_interactions(layout, inventory)
    only_these = inventory.interactions is not None
    found: dict[str, tuple[list[int], list[int]]] = {}
    for source, (path, counts_in) in _sources(layout).items():
        if not path.exists():
            inventory.absent[source] = path
            continue
        places: list[int] = []
        counts: list[int] = []
        outside = 0
        try:
            for item, count in counts_in(path):
                if only_these and item not in position:
                    outside += 1
                else:
                    places.append(position.setdefault(item, len(position)))
                    counts.append(count)
        except UserError as error:
            inventory.problems.append(str(error))
            continue
        found[source] = places, counts
        inventory.outside[source] = outside
    inventory.items = list(position)
    for source, (places, counts) in found.items():
        inventory.counts[source] = np.zeros(len(position), dtype=np.int64)
        inventory.counts[source][places] = counts
    if not inventory.items and not inventory.problems:
        raise UserError(f"{layout.root} holds no item: it has neither {layout.interactions.name} nor text or features")
    return inventory


def _read_interactions(layout: Layout, inventory: Inventory) -> dict[str, int]:
    """Enter users and interactions; returns the place of every item, empty if the file is not there or not readable."""
    if not layout.interactions.is_file():
        inventory.absent["interactions"] = layout.interactions
        return {}
    try:
        inventory.n_users, occurrences = read_occurrences(layout.interactions)
    except UserError as error:
        inventory.problems.append(str(error))
        return {}
    inventory.interactions = np.fromiter(occurrences.values(), np.int64, len(occurrences))
    return {item: place for place, item in enumerate(occurrences)}


def read_occurrences(path: str | os.PathLike[str]) -> tuple[int, dict[str, int]]:
    """Number of users of an ``.inter`` file, and how often each item occurs, items in order of first occurrence.

    Raises:
        UserError: the columns ``user_id:token`` and ``item_id:token`` cannot be read.
    """
    users: set[str] = set()
    occurrences: dict[str, int] = {}
    try:
        blocks = pd.read_csv(
            path,
            sep="\t",
            usecols=[_USER, _ITEM],
            dtype=str,
            na_filter=False,
            encoding="utf-8",
            chunksize=_LINES_AT_A_TIME,
        )
        for block in blocks:
            users.update(block[_USER].unique())
            for item, count in block[_ITEM].value_counts(sort=False).items():
                occurrences[item] = occurrences.get(item, 0) + int(count)
    except ValueError as error:  # pandas' parser errors, a missing column, text that is not UTF-8
        cause = " ".join(str(error).split())
        raise UserError(f"{path} has no readable columns {_USER} and {_ITEM} ({cause}): mend its header") from error
    return len(users), occurrences


def record_pictures(record: Mapping[str, Any], where: str) -> list[str]:
    """A line of ``pictures.jsonl`` -> the item's picture files, paths below :attr:`Layout.picture_files`."""
    pictures = record.get("pictures") or []
    if not is_list_of_text(pictures):
        raise UserError(f'{where}: "pictures" must be a list of file names')
    return list(pictures)


def all_sentences(record: Mapping[str, Any], where: str) -> list[str]:
    """A line of ``text.jsonl`` -> all of the item's sentences, however many the encoder reads."""
    return record_sentences(record, where, _ALL)


def _sources(layout: Layout) -> dict[str, tuple[Path, Callable[[Path], Iterator[tuple[str, int]]]]]:
    """By source: where it lies, and the function that yields its items and their counts."""
    return {
        "sentences": (layout.sentences, partial(_count_entries, read=all_sentences)),
        "pictures": (layout.pictures, partial(_count_entries, read=record_pictures)),
        "words": (layout.keywords, partial(_count_entries, read=record_keywords)),
        "text features": (layout.features("text"), _count_rows),
        "image features": (layout.features("image"), _count_rows),
    }


def _count_entries(path: Path, read: Callable[[Mapping[str, Any], str], Sequence[Any]]) -> Iterator[tuple[str, int]]:
    for where, item_id, record in read_records(path):
        yield item_id, sum(1 for entry in read(record, where) if entry)


def _count_rows(path: Path) -> Iterator[tuple[str, int]]:
    store = FeatureStore.open(path)
    yield from zip(store.item_tokens, np.diff(store.offsets).tolist(), strict=True)
