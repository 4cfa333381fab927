"""The step "interactions": events -> ``<name>.inter``."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_prep.interactions.atomic_file import write_interactions
from dataset_prep.interactions.event_files import hashes, spool
from dataset_prep.interactions.filtering import apply_rules, sizes, sort_by_user
from dataset_prep.interactions.rules import Rules, candidate_rules
from dataset_prep.interactions.table_one import Sizes
from dataset_prep.layout import Layout
from dataset_prep.progress import progress_bar
from dataset_prep.readers.events import Event
from dataset_prep.readers.rejected import Rejected
from recbole_msm4sr.core.errors import UserError

logger = logging.getLogger(__name__)

ItemSets = Mapping[str, NDArray[np.int64]]


def build_interactions(
    layout: Layout,
    events: Iterable[Event],
    rules: Rules | Literal["nearest"],
    *,
    rejected: Rejected,
    reference: Sizes | None = None,
    item_sets: Mapping[str, Collection[str]] | None = None,
) -> dict[str, Any]:
    """Write ``layout.interactions`` from a stream of events, in memory that does not grow with their number.

    The file has the columns ``user_id:token``, ``item_id:token`` and ``timestamp:float``; users stand in the order of
    their first event, each user's events in the order of time, then of the input. Meanwhile every event takes up to
    130 bytes, and its two names, of the disk below ``layout.prep``. An interrupted run starts again from the input.

    Args:
        rules: which events stay. ``"nearest"``: of :func:`~dataset_prep.interactions.rules.candidate_rules`, those
            that come nearest to ``reference``; without a reference, the default rules.
        rejected: where the readers of ``events`` count what they leave out; copied into the figures.
        reference: table I's row, where there is one (:func:`~dataset_prep.interactions.table_one.table_one`).
        item_sets: named sets of items that rules can refer to, such as those with text.

    Returns:
        ``users``, ``items``, ``interactions``, ``average_length``, ``density``; the same ``before`` any rule; the
        ``rules`` and their ``description``; ``left``: how many interactions each rule left; ``rejected``; and where
        there is a reference, it (``table_one``), the ``distance`` to it and, if rules were chosen, ``candidates``.

    Raises:
        UserError: there are no events, no rules leave any, or they name an unknown set of items.
    """
    folder = layout.prep / "events"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        spooled = spool(events, folder)
        before = sizes(spooled.records)
        _check_input(before, rejected)
        parts = sort_by_user(spooled.records, folder)
        known = {name: hashes(items) for name, items in (item_sets or {}).items()}
        figures: dict[str, Any] = {}
        if rules == "nearest":
            rules = Rules()
            if reference:
                rules, figures["candidates"] = _nearest(parts, reference, known, folder)
        kept = folder / "kept.bin"
        left = apply_rules(parts, rules, _items_of(rules, known), kept)
        after = sizes(kept)
        if not after.interactions:
            raise UserError(_nothing_left(before, left))
        finished = folder / layout.interactions.name
        write_interactions(finished, kept, spooled)
        finished.replace(layout.interactions)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if rules.repeats == "distinct" and (n_duplicates := _n_duplicates(rules, left, before)):
        logger.info("%s exact duplicates left out: equal user, item and time (repeats: all keeps them)", n_duplicates)
    logger.info(
        "%s: %s users, %s items, %s interactions (%s)",
        layout.interactions.name,
        f"{after.users:,}",
        f"{after.items:,}",
        f"{after.interactions:,}",
        rules.describe(),
    )
    if reference:
        figures |= {"table_one": reference.as_dict(), "distance": _rounded(after.distance(reference))}
    return {
        **after.as_dict(),
        "before": before.as_dict(),
        "rules": asdict(rules),
        "description": rules.describe(),
        "left": left,
        "rejected": rejected.as_dict(),
        **figures,
    }


def _nearest(parts: list[Path], reference: Sizes, known: ItemSets, folder: Path) -> tuple[Rules, list[dict[str, Any]]]:
    """The candidate that comes nearest to ``reference``, and what each of them gives; equally near: the first."""
    trial = folder / "trial.bin"
    best, least, candidates = Rules(), math.inf, []
    tried = candidate_rules(known)
    with progress_bar(len(tried), "rule", "rules") as bar:
        for rules in tried:
            apply_rules(parts, rules, _items_of(rules, known), trial)
            found = sizes(trial)
            distance = found.distance(reference)
            if distance < least:
                best, least = rules, distance
            candidates.append({"rules": rules.describe(), **found.as_dict(), "distance": _rounded(distance)})
            bar.update()
    trial.unlink()
    logger.info("nearest to table I of %d candidate rules: %s (distance %.3f)", len(tried), best.describe(), least)
    return best, candidates


def _n_duplicates(rules: Rules, left: Mapping[str, int], before: Sizes) -> int:
    """How many events the rule on repeats took."""
    counts = [before.interactions, *left.values()]
    place = list(left).index(rules.describe_repeats())
    return counts[place] - counts[place + 1]


def _items_of(rules: Rules, known: ItemSets) -> NDArray[np.int64] | None:
    if rules.item_set is None:
        return None
    if rules.item_set not in known:
        sets = ", ".join(known) or "there is none"
        raise UserError(f"item_set is {rules.item_set!r}, which is no known set of items: take one of these: {sets}")
    return known[rules.item_set]


def _rounded(distance: float) -> float | None:
    """For JSON, which has no infinity: None where nothing is left."""
    return round(distance, 4) if math.isfinite(distance) else None


def _check_input(before: Sizes, rejected: Rejected) -> None:
    """Say what could not be used.

    Raises:
        UserError: nothing could.
    """
    if rejected.total:
        logger.warning(rejected.describe(rejected.total + before.interactions, "records"))
    if not before.interactions:
        found = rejected.describe(rejected.total, "records") if rejected.total else "the input has no records"
        raise UserError(f"there is no interaction to use: {found}")
    logger.info(
        "read %s interactions of %s users with %s items",
        f"{before.interactions:,}",
        f"{before.users:,}",
        f"{before.items:,}",
    )


def _nothing_left(before: Sizes, left: Mapping[str, int]) -> str:
    steps = ", ".join(f"{number:,} after {rule!r}" for rule, number in left.items())
    return f"no interaction is left of {before.interactions:,}: {steps}; choose milder rules or give more data"
