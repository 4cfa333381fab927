"""Which items have no picture, and what became of every source that they could have had one from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dataset_prep.fetch.ledger import Ledger
from dataset_prep.fetch.obtain import NOT_ASKED
from dataset_prep.fetch.picture_sources import read_sources
from dataset_prep.layout import Layout
from dataset_prep.readable import displayable
from dataset_prep.readers.jsonl import read_records
from recbole_msm4sr.core.errors import UserError

NO_SOURCE = "the source names no picture"
OUTSIDE_LIMITS = "outside the limits"


@dataclass(frozen=True)
class Missing:
    """An item without a picture.

    Attributes:
        failures: ``(source, reason, permanent)`` of all its sources; empty if it never had one.
    """

    item_id: str
    failures: tuple[tuple[str, str, bool], ...]


def missing_pictures(layout: Layout) -> Iterator[Missing]:
    """Yield the items of ``layout.pictures`` that have none, in order.

    Raises:
        UserError: the pictures have not been collected, or a run is at work on them.
    """
    if not layout.ledger.is_file():
        raise UserError(f"{layout.root} has no ledger of pictures: its pictures have not been collected")
    if not layout.pictures.is_file():
        raise UserError(f"{layout.root}: collecting its pictures was interrupted; run the pictures step to its end")
    without = {item_id for _, item_id, record in read_records(layout.pictures) if not record.get("pictures")}
    with Ledger(layout.ledger) as ledger:
        for item_id, pictures in read_sources(layout.picture_sources):
            if item_id in without:
                sources = [source for sources in pictures for source in sources]
                yield Missing(item_id, tuple(_failure(source, ledger) for source in sources))


def missing_as_table(layout: Layout) -> Iterator[str]:
    """:func:`missing_pictures` as lines with tabs: a header, then one line a source of an item, or one a bare item."""
    yield "item_id\tsource\treason\tasked_again"
    for missing in missing_pictures(layout):
        item_id = displayable(missing.item_id)
        if not missing.failures:
            yield f"{item_id}\t\t{NO_SOURCE}\tno"
        for source, reason, permanent in missing.failures:
            yield f"{item_id}\t{displayable(source)}\t{reason}\t{'no' if permanent else 'yes'}"


def _failure(source: str, ledger: Ledger) -> tuple[str, str, bool]:
    entry = ledger.get(source)
    if entry is None:
        return source, NOT_ASKED, False
    return source, entry.outcome.reason or OUTSIDE_LIMITS, entry.outcome.permanent or entry.outcome.reason is None
