"""``info --missing``: which items have no picture, and what became of each of their sources."""

from __future__ import annotations

from collections.abc import Iterator

from dataset_prep.fetch.ledger import Ledger
from dataset_prep.fetch.picture_sources import read_sources
from dataset_prep.layout import Layout
from dataset_prep.readable import displayable
from dataset_prep.readers.jsonl import read_records
from recbole_msm4sr.core.errors import UserError


def missing_pictures(layout: Layout) -> Iterator[tuple[str, list[tuple[str, str, bool]]]]:
    """Yield the items of ``layout.pictures`` that have none, in order, with ``(source, reason, permanent)`` of each
    source; an empty list if it never had a source.

    Raises:
        UserError: the pictures have not been collected, or another process is collecting them.
    """
    if not layout.ledger.is_file():
        raise UserError(f"{layout.root} has no ledger of pictures: its pictures have not been collected")
    if not layout.pictures.is_file():
        raise UserError(f"{layout.root}: collecting its pictures was interrupted; run the pictures step to its end")
    without = {item_id for _, item_id, record in read_records(layout.pictures) if not record.get("pictures")}
    with Ledger(layout.ledger) as ledger:
        for item_id, pictures in read_sources(layout.picture_sources):
            if item_id in without:
                yield item_id, [_failure(source, ledger) for sources in pictures for source in sources]


def missing_as_table(layout: Layout) -> Iterator[str]:
    """:func:`missing_pictures` as lines with tabs: a header, then one line a source, or one an item without any."""
    yield "item_id\tsource\treason\tasked_again"
    for item_id, failures in missing_pictures(layout):
        for source, reason, permanent in failures or [("", "the source names no picture", True)]:
            yield f"{displayable(item_id)}\t{displayable(source)}\t{reason}\t{'no' if permanent else 'yes'}"


def _failure(source: str, ledger: Ledger) -> tuple[str, str, bool]:
    known = ledger.get(source)
    if known is None:
        return source, "not asked yet", False
    return source, known.reason or "fetched since: run the pictures step again", bool(known.permanent)
