"""Picture sources -> checked pictures in the store, and ``pictures.jsonl``: which item has which."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.decode import PictureLimits
from dataset_prep.fetch.ledger import Ledger
from dataset_prep.fetch.obtain import Obtainer
from dataset_prep.fetch.picture_sources import choose_pictures, count_items, read_sources
from dataset_prep.fetch.store import PictureStore
from dataset_prep.fetch.workers import for_each
from dataset_prep.layout import Layout
from dataset_prep.progress import progress_bar
from dataset_prep.readable import displayable, percent, size_as_text
from dataset_prep.readers.jsonl import write_records
from dataset_prep.readers.rejected import Rejected
from recbole_msm4sr.core.errors import UserError

logger = logging.getLogger(__name__)

MAX_PICTURES = 10
_LOW_COVERAGE = 0.5


def collect_pictures(
    layout: Layout,
    *,
    client: HttpClient | None,
    workers: int = 16,
    max_pictures: int = MAX_PICTURES,
    limits: PictureLimits = PictureLimits(),  # noqa: B008 - frozen
    retry_dead: bool = False,
) -> dict[str, Any]:
    """Fetch or copy the pictures of ``layout.picture_sources`` and write ``layout.pictures``.

    Of every picture the first good source is taken. Killed at any moment, the next call goes on where it stopped:
    the ledger knows what every source gave. Good and dead sources are not asked again, those that failed for now are.

    Args:
        client: asks the sources, which are URLs, and sees to politeness; it is closed if the run fails. None: the
            sources are absolute paths of files, which are linked or copied and stay as they are.
        workers: items that are worked on at once.
        max_pictures: most pictures of an item; equal ones count once.
        retry_dead: ask dead sources again, too.

    Returns:
        Figures. Of items: ``items``, ``items_with_pictures``, ``coverage``. Of pictures: ``wanted``, ``had``,
        ``missing`` (no good source). Of sources in this call: ``asked``, ``stored``, ``bytes``, ``reused``,
        ``dead_skipped``. ``failed``: the sources without a picture, by reason; ``try_again``: how many of those may
        work another time.

    Raises:
        UserError: the sources cannot be read, the disk is full, no server answers, or another run is at work.
    """
    with _keeping_what_is_done(layout), Ledger(layout.ledger) as ledger:
        store = PictureStore(layout.picture_files)
        store.sweep()
        ledger.start_run()
        obtainer = Obtainer(ledger, store, limits, client, retry_dead)
        _obtain_all(layout, obtainer, workers, max_pictures)
        _check_network(obtainer)
        figures = _write_pictures(layout, obtainer, max_pictures)
        store.sweep()
    _log(figures)
    return figures


def _obtain_all(layout: Layout, obtainer: Obtainer, workers: int, max_pictures: int) -> None:
    """Ask for every picture; the ledger holds the outcome."""
    counting = threading.Lock()
    with progress_bar(count_items(layout.picture_sources), "item", "pictures") as bar:

        def work(item: tuple[str, list[list[str]]]) -> None:
            choose_pictures(item[1], obtainer.obtain, max_pictures)
            with counting:
                bar.set_postfix_str(f"{obtainer.counts['stored']:,} new pictures", refresh=False)
                bar.update()

        def stop() -> None:
            logger.info("pictures: stopping, once the requests that are under way have ended")
            obtainer.stop.set()
            if obtainer.client is not None:
                obtainer.client.close()

        for_each(read_sources(layout.picture_sources), work, workers, stop)


def _check_network(obtainer: Obtainer) -> None:
    """Raise if nothing has ever been had, and no server has answered now: that is no property of the pictures."""
    known = obtainer.counts["reused"] + obtainer.counts["dead_skipped"]
    if obtainer.client is not None and obtainer.counts["asked"] and not obtainer.heard and not known:
        raise UserError(
            f"not one answer to the {obtainer.counts['asked']:,} URLs that were asked, the last one of them "
            f"{obtainer.latest_failure}: check the network, and run the step again"
        )


def _write_pictures(layout: Layout, obtainer: Obtainer, max_pictures: int) -> dict[str, Any]:
    """Write ``pictures.jsonl``: by the ledger alone, so the threads' order leaves no trace. Returns the figures."""
    sums = Counter(dict.fromkeys(("items", "items_with_pictures", "wanted", "had", "missing", "try_again"), 0))
    failed = Rejected()

    def look_up(source: str) -> str | None:
        outcome = obtainer.outcome(source)
        if outcome.reason is not None:
            failed.add(displayable(source, 300), outcome.reason, displayable(outcome.detail, 300))
            sums["try_again"] += not outcome.permanent
        return outcome.picture

    def lines() -> Iterator[dict[str, Any]]:
        for item_id, pictures in read_sources(layout.picture_sources):
            chosen, n_missing = choose_pictures(pictures, look_up, max_pictures)
            sums.update(
                items=1,
                items_with_pictures=int(bool(chosen)),
                wanted=min(len(pictures), max_pictures),
                had=len(chosen),
                missing=n_missing,
            )
            yield {"item_id": item_id, "pictures": chosen}

    write_records(layout.pictures, lines())
    return {
        **sums,
        "coverage": sums["items_with_pictures"] / sums["items"] if sums["items"] else 0.0,
        **{name: obtainer.counts[name] for name in ("asked", "stored", "bytes", "reused", "dead_skipped")},
        "failed": failed.as_dict(),
    }


def _log(figures: dict[str, Any]) -> None:
    logger.info(
        "pictures: %d of %d items have one (%s), %d pictures in all; %d new (%s), %d known, %d dead sources not asked",
        figures["items_with_pictures"],
        figures["items"],
        percent(figures["coverage"]),
        figures["had"],
        figures["stored"],
        size_as_text(figures["bytes"]),
        figures["reused"],
        figures["dead_skipped"],
    )
    failed = figures["failed"]
    if failed["total"]:
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in failed["by_reason"].items())
        logger.warning(
            "pictures: %d of %d are missing; sources failed: %s; %s; %d of them may work another time",
            figures["missing"],
            figures["wanted"],
            reasons,
            "; ".join(failed["examples"]),
            figures["try_again"],
        )
    if figures["coverage"] < _LOW_COVERAGE:
        logger.warning("pictures: coverage is low: most items have no picture, and images will say little about them")


@contextmanager
def _keeping_what_is_done(layout: Layout) -> Iterator[None]:
    """Say what it means when nothing can be written any more: a full disk, above all."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"the pictures cannot be kept in {layout.prep} ({error}): what is there is whole and stays; "
            "make room on the disk, and run the step again"
        ) from error
