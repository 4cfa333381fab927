"""All that is known of the items on the page: sentences, pictures, and the words of each picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from dataset_prep.gallery.sample import Drawn
from dataset_prep.info.inventory import MODALITIES, Inventory, all_sentences, record_pictures
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import read_records, record_keywords


@dataclass(frozen=True)
class Picture:
    """A picture of an item: its file below ``prep/pictures``, None if that is not known; its words, best first."""

    file: str | None
    words: list[str]


@dataclass(frozen=True)
class Item:
    """An item of the sample.

    Attributes:
        interactions: how often it occurs in the ``.inter`` file; None without one.
        missing: those of ``text`` and ``image`` that it lacks.
        rows: vectors in the feature store by modality; a modality without a store is left out.
        added: whether it was drawn because something is missing.
    """

    item_id: str
    interactions: int | None
    sentences: list[str]
    pictures: list[Picture]
    missing: list[str]
    rows: dict[str, int]
    added: bool


def read_items(layout: Layout, inventory: Inventory, drawn: Sequence[Drawn]) -> list[Item]:
    """Read what the inventory counted of the items drawn, in their order.

    Raises:
        UserError: a file has changed since the inventory and cannot be read now.
    """
    tokens = {inventory.items[one.place] for one in drawn}
    sentences = _chosen(layout.sentences, all_sentences, tokens) if "sentences" in inventory.counts else {}
    files = _chosen(layout.pictures, record_pictures, tokens) if "pictures" in inventory.counts else {}
    words = _chosen(layout.keywords, record_keywords, tokens) if "words" in inventory.counts else {}
    lacks = {modality: inventory.lacks(modality) for modality in MODALITIES}
    rows = {name: inventory.counts[f"{name} features"] for name in MODALITIES if f"{name} features" in inventory.counts}

    def item(place: int, added: bool) -> Item:
        token = inventory.items[place]
        return Item(
            item_id=token,
            interactions=None if inventory.interactions is None else int(inventory.interactions[place]),
            sentences=sentences.get(token, []),
            pictures=[Picture(*pair) for pair in _pairs(files.get(token, []), words.get(token, []))],
            missing=[modality for modality, lacking in lacks.items() if lacking[place]],
            rows={modality: int(counts[place]) for modality, counts in rows.items()},
            added=added,
        )

    return [item(one.place, one.added) for one in drawn]


def _chosen(
    path: Path, entries: Callable[[Mapping[str, Any], str], list[Any]], tokens: set[str]
) -> dict[str, list[Any]]:
    return {item: entries(record, where) for where, item, record in read_records(path) if item in tokens}


def _pairs(files: Sequence[str], words: Sequence[list[str]]) -> Iterator[tuple[str | None, list[str]]]:
    """The l-th list of words belongs to the l-th picture; either may be longer."""
    for file, of_picture in zip_longest(files, words):
        yield file, of_picture or []
