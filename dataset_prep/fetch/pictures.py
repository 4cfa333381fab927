"""Picture sources -> checked pictures in the store, and ``pictures.jsonl``: which item has which."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.ledger import Ledger, Outcome
from dataset_prep.fetch.obtain import Obtainer
from dataset_prep.fetch.picture_sources import read_sources
from dataset_prep.fetch.store import PictureStore
from dataset_prep.layout import Layout
from dataset_prep.progress import progress_bar
from dataset_prep.readable import displayable, percent, size_as_text
from dataset_prep.readers.jsonl import write_records
from dataset_prep.readers.rejected import Rejected
from dataset_prep.workers import in_order
from recbole_msm4sr.core.errors import UserError

logger = logging.getLogger(__name__)

MAX_PICTURES = 10
_AHEAD = 1000  # items, so that a slow host does not hold up the others
_LOW_COVERAGE = 0.5


@dataclass
class _Chosen:
    """An item's pictures (names in the store), and what became of the sources before them."""

    item_id: str
    wanted: int
    pictures: list[str] = field(default_factory=list)
    missing: int = 0
    failed: list[tuple[str, Outcome]] = field(default_factory=list)


def collect_pictures(
    layout: Layout,
    *,
    client: HttpClient | None,
    workers: int = 16,
    max_pictures: int = MAX_PICTURES,
    retry_dead: bool = False,
    silent_limit: int = 50,
) -> dict[str, Any]:
    """Fetch or copy the pictures of ``layout.picture_sources`` and write ``layout.pictures``.

    Of every picture the first good source is taken. Killed at any moment, the next call continues where it stopped:
    the ledger knows what every source gave. Good and dead sources are not asked again, those that failed for now are.

    Args:
        client: asks the sources, which are URLs, politely; it is stopped if the run fails. None: the sources are
            absolute paths of files, which are linked or copied and stay as they are.
        workers: items that are worked on at once.
        max_pictures: most pictures of an item; equal ones count once.
        retry_dead: ask dead sources again, too.
        silent_limit: failures in a row, none of them final, after which a host is left alone for this run.

    Returns:
        Figures. Of items: ``items``, ``items_with_pictures``, ``coverage``. Of pictures: ``wanted``, ``had``,
        ``missing`` (no good source). Of sources in this call: ``asked``, ``stored``, ``bytes``, ``reused``,
        ``dead_skipped``. ``failed``: the sources without a picture, by reason; ``try_again``: how many of those may
        work another time.

    Raises:
        UserError: the sources cannot be read, no server answers, or another process collects the pictures.
        OSError: the disk is full or cannot be written; what is done is kept.
    """
    sums = Counter(dict.fromkeys(("items", "items_with_pictures", "wanted", "had", "missing", "try_again"), 0))
    failed = Rejected()
    with Ledger(layout.ledger) as ledger:
        store = PictureStore(layout.picture_files)
        store.sweep()
        obtainer = Obtainer(ledger, store, client, retry_dead, silent_limit)

        def records(pool: ThreadPoolExecutor) -> Iterator[dict[str, Any]]:
            def submit(item: tuple[str, list[list[str]]]) -> Future[_Chosen]:
                return pool.submit(_choose, *item, obtainer, max_pictures)

            # All of the file is read first, so that a bad line is found before anything is asked.
            total = sum(1 for _ in read_sources(layout.picture_sources))
            with progress_bar(total, "item", "pictures") as bar:
                for _, chosen in in_order(submit, read_sources(layout.picture_sources), _AHEAD):
                    _add(chosen, sums, failed)
                    bar.update()
                    yield {"item_id": chosen.item_id, "pictures": chosen.pictures}
            _check_network(obtainer)

        with _stopping(obtainer, workers) as pool:
            write_records(layout.pictures, records(pool))
        store.sweep()
    figures = {
        **sums,
        "coverage": sums["items_with_pictures"] / sums["items"] if sums["items"] else 0.0,
        **{name: obtainer.counts[name] for name in ("asked", "stored", "bytes", "reused", "dead_skipped")},
        "failed": failed.as_dict(),
    }
    _log(figures)
    return figures


def _choose(item_id: str, pictures: list[list[str]], obtainer: Obtainer, max_pictures: int) -> _Chosen:
    """Of every picture the first source that is good, until there are ``max_pictures`` different ones."""
    chosen = _Chosen(item_id, min(len(pictures), max_pictures))
    for sources in pictures:
        if len(chosen.pictures) == max_pictures:
            break
        for source in sources:
            outcome = obtainer.obtain(source)
            if outcome.picture is not None:
                if outcome.picture not in chosen.pictures:
                    chosen.pictures.append(outcome.picture)
                break
            chosen.failed.append((source, outcome))
        else:
            chosen.missing += 1
    return chosen


@contextmanager
def _stopping(obtainer: Obtainer, workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that are stopped, and waited for, if the block raises; on Ctrl-C, too."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield pool
        except BaseException:
            obtainer.stop()
            pool.shutdown(cancel_futures=True)
            raise


def _add(chosen: _Chosen, sums: Counter[str], failed: Rejected) -> None:
    sums.update(
        items=1,
        items_with_pictures=int(bool(chosen.pictures)),
        wanted=chosen.wanted,
        had=len(chosen.pictures),
        missing=chosen.missing,
        try_again=sum(not outcome.permanent for _, outcome in chosen.failed),
    )
    for source, outcome in chosen.failed:
        failed.add(displayable(source, 300), str(outcome.reason), displayable(outcome.detail, 300))


def _check_network(obtainer: Obtainer) -> None:
    """Raise if nothing was ever fetched, and no server has answered now: the fault is not the pictures'."""
    counts = obtainer.counts
    known = counts["reused"] + counts["dead_skipped"] + counts["answered"]
    if obtainer.client is not None and counts["asked"] and not known:
        raise UserError(
            f"not one answer to the {counts['asked']:,} URLs that were asked, the last one of them "
            f"{displayable(obtainer.latest_failure)}: check the network, and run the step again"
        )


def _log(figures: dict[str, Any]) -> None:
    logger.info(
        f"pictures: {figures['items_with_pictures']} of {figures['items']} items have one "
        f"({percent(figures['coverage'])}), {figures['had']} pictures in all; {figures['stored']} new "
        f"({size_as_text(figures['bytes'])}), {figures['reused']} known, {figures['dead_skipped']} dead ones not asked"
    )
    failed = figures["failed"]
    if failed["total"]:
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in failed["by_reason"].items())
        logger.warning(
            f"pictures: {figures['missing']} of {figures['wanted']} are missing; sources failed: {reasons}; "
            f"{'; '.join(failed['examples'])}; {figures['try_again']} of them may work another time"
        )
    if figures["coverage"] < _LOW_COVERAGE:
        logger.warning("pictures: coverage is low: most items have no picture, and images will say little about them")
