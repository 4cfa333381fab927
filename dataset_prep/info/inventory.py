"""What a prepared folder holds of every item, in counts: interactions, sentences, pictures, words, vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_prep.layout import Layout
from dataset_prep.readers.inter import item_counts
from dataset_prep.readers.jsonl import is_list_of_text, read_records, record_keywords
from dataset_prep.text.sentences import record_sentences
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_store import FeatureStore

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
        UserError: there is no such folder, or nothing of a data set in it. A file that cannot be read is not an
            error: it is named in ``problems``.
    """
    if not layout.root.is_dir():
        raise UserError(f"{layout.root} is not a folder: name the folder of a prepared data set, dataset/NAME")
    inventory = Inventory()
    occurrences: dict[str, int] = {}
    if not layout.interactions.is_file():
        inventory.absent["interactions"] = layout.interactions
    else:
        with _noting(inventory.problems):
            inventory.n_users, occurrences = item_counts(layout.interactions)
            inventory.interactions = np.fromiter(occurrences.values(), np.int64, len(occurrences))
    position = {item: place for place, item in enumerate(occurrences)}
    found = {}
    for source, (path, counts_in) in _sources(layout).items():
        if not path.exists():
            inventory.absent[source] = path
            continue
        with _noting(inventory.problems):
            found[source] = dict(counts_in(path))
            if inventory.interactions is None:
                for item in found[source]:
                    position.setdefault(item, len(position))
    inventory.items = list(position)
    for source, by_item in found.items():
        known = {position[item]: count for item, count in by_item.items() if item in position}
        inventory.outside[source] = len(by_item) - len(known)
        inventory.counts[source] = np.zeros(len(position), dtype=np.int64)
        inventory.counts[source][list(known)] = list(known.values())
    if not inventory.items and not inventory.problems:
        raise UserError(f"{layout.root} holds no item: it has neither {layout.interactions.name} nor text or features")
    return inventory


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except (UserError, OSError) as error:
        problems.append(str(error))


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
