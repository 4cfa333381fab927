"""A stream of items -> ``text.jsonl``, ``picture_sources.jsonl`` and the ``.item`` file, in one pass."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any, NamedTuple

from dataset_prep.layout import Layout
from dataset_prep.readers.items import Item
from dataset_prep.readers.jsonl import json_line
from dataset_prep.readers.rejected import EXAMPLES, Rejected
from dataset_prep.text.attributes import HEADER, AttributeFigures, attributes_of
from dataset_prep.text.sentences import MAX_SENTENCES, sentences_of
from dataset_prep.workers import ordered_map
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_text

logger = logging.getLogger(__name__)

MAX_PICTURES = 10
_CHUNK = 256  # items that a worker gets at a time
_SAMPLE = 20_000  # items whose sentences are compared for the commonest ones
_SHOWN = 10


def build_text(
    layout: Layout,
    items: Iterable[Item],
    *,
    tokens: Sequence[str] | None = None,
    max_sentences: int = MAX_SENTENCES,
    max_pictures: int = MAX_PICTURES,
    workers: int = 1,
    rejected: Rejected,
    origin: str | os.PathLike[str] = "the metadata",
) -> dict[str, Any]:
    """Write the sentences, the picture sources and the attributes of a data set's items.

    Lines are in the order of ``items``, then come the items without a record in the order of ``tokens``, with nothing
    of either. Of an item that occurs more than once, the first record is used. The files appear when all are complete.
    The output does not depend on ``workers``. Memory: one entry an item (its token and a number), whatever its text.

    Args:
        tokens: the items to write, as in ``.inter``; None for all.
        workers: processes that clean and split.
        rejected: the one that ``items`` counts in.
        origin: the file that ``items`` are read from, for messages.

    Returns:
        The figures of the summary: items, sentences, pictures, attributes, repeats, what was dropped and rejected.
        ``commonest`` has the sentences that most items share, with their share of the first 20,000 items: a look at it
        shows boilerplate.

    Raises:
        UserError: ``items`` is empty or has none of ``tokens``, or what ``items`` raises.
    """
    first = _FirstRecords(None if tokens is None else set(tokens))
    tally, attributes = _Tally(), AttributeFigures()
    with ExitStack() as stack:
        text, sources, item_file = (
            stack.enter_context(atomic_text(path)) for path in (layout.sentences, layout.picture_sources, layout.items)
        )
        item_file.write(HEADER)

        def write(token: str, made: _Made, pictures: Sequence[Sequence[str]]) -> None:
            tally.add(made.sentences, pictures)
            text.write(json_line({"item_id": token, "sentences": made.sentences}))
            sources.write(json_line({"item_id": token, "pictures": pictures}))
            item_file.write(attributes.line(token, made.classes, made.brand))

        for chunk, (made, dropped) in ordered_map(_Make(max_sentences), _chunks(first.of(items)), workers):
            tally.dropped += dropped
            for item, one in zip(chunk, made, strict=True):
                write(item.item_id, one, item.pictures[:max_pictures])
        if not tally.items:
            found = rejected.describe(first.n_other + rejected.total, "records") if rejected.total else ""
            raise UserError(
                f"{origin} has no record of an item of this data set: is it the right file? {found}".strip()
            )
        without = [token for token in dict.fromkeys(tokens or ()) if token not in first.digests]
        for token in without:
            write(token, _Made([], [], ""), [])
    figures = {
        **tally.as_dict(),
        "attributes": attributes.as_dict(),
        "without_record": len(without),
        "without_record_examples": without[:EXAMPLES],
        "records_of_other_items": first.n_other,
        "repeats": {"identical": first.n_identical, "conflicting": first.n_conflicting},
        "rejected": rejected.as_dict(),
    }
    logger.info(
        "text: %s items, %s with text (%.1f sentences an item), %s with links to pictures, %s without a record",
        *(f"{figures[name]:,}" for name in ("items", "with_text")),
        figures["sentences_per_item"],
        *(f"{figures[name]:,}" for name in ("with_pictures", "without_record")),
    )
    return figures


def items_with(items: Iterable[Item]) -> dict[str, set[str]]:
    """Which items have at least one sentence (``text``) and at least one picture URL (``image``).

    The same items that :func:`build_text` finds, for it goes by the first record of each too; an item's text is
    cleaned no further than its first sentence.
    """
    found: dict[str, set[str]] = {"text": set(), "image": set()}
    for item in _FirstRecords(None).of(items):
        if sentences_of(item, 1):
            found["text"].add(item.item_id)
        if item.pictures:
            found["image"].add(item.item_id)
    return found


class _FirstRecords:
    """Lets through the first record of each wanted item, and tells later ones apart into same and different."""

    def __init__(self, wanted: set[str] | None) -> None:
        self.wanted = wanted
        self.digests: dict[str, int] = {}
        self.n_identical = self.n_conflicting = self.n_other = 0

    def of(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if self.wanted is not None and item.item_id not in self.wanted:
                self.n_other += 1
            elif item.item_id not in self.digests:
                self.digests[item.item_id] = hash(item)
                yield item
            elif self.digests[item.item_id] == hash(item):
                self.n_identical += 1
            else:
                self.n_conflicting += 1


class _Made(NamedTuple):
    """What is made of one item."""

    sentences: list[str]
    classes: list[str]
    brand: str


class _Make:
    """The work on one chunk, as an object that can be sent to another process."""

    def __init__(self, max_sentences: int) -> None:
        self.max_sentences = max_sentences

    def __call__(self, chunk: Sequence[Item]) -> tuple[list[_Made], Counter[str]]:
        dropped: Counter[str] = Counter()
        return [_Made(sentences_of(item, self.max_sentences, dropped), *attributes_of(item)) for item in chunk], dropped


class _Tally:
    """Counts what is written."""

    def __init__(self) -> None:
        self.items = self.with_pictures = self.pictures = 0
        self.lengths: Counter[int] = Counter()  # number of sentences -> items
        self.dropped: Counter[str] = Counter()
        self.common: Counter[str] = Counter()

    def add(self, sentences: Sequence[str], pictures: Sequence[Sequence[str]]) -> None:
        if self.items < _SAMPLE:
            self.common.update(sentences)
        self.items += 1
        self.lengths[len(sentences)] += 1
        self.pictures += len(pictures)
        self.with_pictures += bool(pictures)

    def as_dict(self) -> dict[str, Any]:
        sentences = sum(length * count for length, count in self.lengths.items())
        sample = min(self.items, _SAMPLE)
        return {
            "items": self.items,
            "with_text": self.items - self.lengths[0],
            "with_pictures": self.with_pictures,
            "sentences": sentences,
            "sentences_per_item": round(sentences / self.items, 3),
            "items_by_sentences": {str(length): self.lengths[length] for length in sorted(self.lengths)},
            "pictures": self.pictures,
            "dropped": dict(self.dropped.most_common()),
            "commonest": {text: round(count / sample, 4) for text, count in self.common.most_common(_SHOWN)},
        }


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    while chunk := list(islice(items, _CHUNK)):
        yield chunk
