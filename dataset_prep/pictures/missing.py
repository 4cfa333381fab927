"""Which items have no picture, and what became of every source that they could have had one from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dataset_prep.layout import Layout
from dataset_prep.pictures.ledger import Ledger
from dataset_prep.pictures.sources import read_sources
from dataset_prep.records import read_records


@dataclass(frozen=True)
class Missing:
    """An item without a picture.

    Attributes:
        failures: ``(source, reason, permanent)`` of all its sources; empty if it never had one. The reason is None
            for a source that has not been asked, and for a picture that a limit of now leaves out.
    """

    item_id: str
    failures: tuple[tuple[str, str | None, bool], ...]


def missing_pictures(layout: Layout) -> Iterator[Missing]:
    """Yield the items of ``layout.pictures`` that have none, in order.

    Raises:
        UserError: the pictures have not been collected, or a run is at work on them.
    """
    without = {item_id for _, item_id, record in read_records(layout.pictures) if not record.get("pictures")}
    with Ledger(layout.ledger) as ledger:
        for item_id, pictures in read_sources(layout.picture_sources):
            if item_id in without:
                sources = [source for sources in pictures for source in sources]
                yield Missing(item_id, tuple(_failure(source, ledger) for source in sources))


def _failure(source: str, ledger: Ledger) -> tuple[str, str | None, bool]:
    entry = ledger.get(source)
    return (source, None, False) if entry is None else (source, entry.outcome.reason, entry.outcome.permanent)
