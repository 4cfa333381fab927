"""The step "interactions": events -> ``<name>.inter``."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Literal

from dataset_prep.interactions.event_table import EventTable, event_table
from dataset_prep.interactions.rules import MEMORY, Rules, candidate_rules
from dataset_prep.interactions.table_one import Sizes
from dataset_prep.layout import Layout
from dataset_prep.progress import progress_bar
from dataset_prep.readers.events import Event
from dataset_prep.readers.rejected import Rejected
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_text

logger = logging.getLogger(__name__)

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"


def build_interactions(
    layout: Layout,
    events: Iterable[Event],
    rules: Rules | Literal["nearest"],
    *,
    rejected: Rejected,
    origin: str | os.PathLike[str] = "the input",
    reference: Sizes | None = None,
    item_sets: Mapping[str, Collection[str]] | None = None,
    memory: str = MEMORY,
    threads: int = 1,
) -> dict[str, Any]:
    """Write ``layout.interactions`` from a stream of events.

    The file has the columns ``user_id:token``, ``item_id:token`` and ``timestamp:float``; users stand in the order of
    their first event, each user's events in the order of time, then of the input. Times are in the shortest form that
    float64 reads back as the same number. What does not fit into memory lies below ``layout.prep`` meanwhile. An
    interrupted run starts again from the input.

    Args:
        rules: which events stay. ``"nearest"``: of :func:`~dataset_prep.interactions.rules.candidate_rules`, those
            that come nearest to ``reference``; without a reference, the default rules.
        rejected: where the readers of ``events`` count what they leave out; copied into the figures.
        origin: the file that ``events`` are read from, for messages.
        reference: table I's row, where there is one (:func:`~dataset_prep.interactions.table_one.table_one`).
        item_sets: named sets of items that rules can refer to, such as those with text.
        memory: of DuckDB, a size (``4GB``) or a share of the machine's (``50%``).
        threads: of DuckDB; the file does not depend on them.

    Returns:
        ``users``, ``items``, ``interactions``, ``average_length``, ``density``; the same ``before`` any rule; the
        ``rules`` and their ``description``; ``left``: how many interactions each rule left; ``rejected``; and where
        there is a reference, it (``table_one``), the ``distance`` to it and, if rules were chosen, ``candidates``.

    Raises:
        UserError: there are no events, no rules leave any, or they name an unknown set of items.
    """
    item_sets = item_sets or {}
    if isinstance(rules, Rules) and rules.item_set not in (None, *item_sets):
        sets = ", ".join(item_sets) or "there is none"
        raise UserError(f"item_set is {rules.item_set!r}, which is not a known set of items: take one of these: {sets}")
    figures: dict[str, Any] = {}
    with event_table(layout.prep / "events", memory, threads) as table:
        before = table.load(events, item_sets)
        _check_input(before, rejected, origin)
        if rules == "nearest":
            rules = Rules()
            if reference:
                rules, figures["candidates"] = _nearest(table, reference, candidate_rules(item_sets))
        left = table.apply(rules)
        after = table.kept_sizes()
        if not after.interactions:
            raise UserError(f"{origin}: {_nothing_left(before, left)}")
        _write(layout, table.kept(), after.interactions)
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


def _nearest(table: EventTable, reference: Sizes, candidates: list[Rules]) -> tuple[Rules, list[dict[str, Any]]]:
    """The candidate that comes nearest to ``reference``, and what each of them gives; equally near: the first."""
    best, least, tried = Rules(), math.inf, []
    with progress_bar(len(candidates), "rule", "rules") as bar:
        for rules in candidates:
            table.apply(rules)
            found = table.kept_sizes()
            distance = found.distance(reference)
            if distance < least:
                best, least = rules, distance
            tried.append({"rules": rules.describe(), **found.as_dict(), "distance": _rounded(distance)})
            bar.update()
    logger.info("nearest to table I of %d candidate rules: %s (distance %.3f)", len(tried), best.describe(), least)
    return best, tried


def _write(layout: Layout, batches: Iterable[list[Event]], n_events: int) -> None:
    with (
        atomic_text(layout.interactions) as file,
        progress_bar(n_events, " lines", "writing", unit_scale=True) as bar,
    ):
        file.write(HEADER)
        for events in batches:
            file.writelines(f"{user}\t{item}\t{_number(time)}\n" for user, item, time in events)
            bar.update(len(events))


def _number(time: float) -> str:
    """A finite number as text, whole ones without a point."""
    return str(int(time)) if time.is_integer() else repr(time)


def _n_duplicates(rules: Rules, left: Mapping[str, int], before: Sizes) -> int:
    """How many events the rule on repeats took."""
    counts = [before.interactions, *left.values()]
    place = list(left).index(rules.describe_repeats())
    return counts[place] - counts[place + 1]


def _rounded(distance: float) -> float | None:
    """For JSON, which has no infinity: None where nothing is left."""
    return round(distance, 4) if math.isfinite(distance) else None


def _check_input(before: Sizes, rejected: Rejected, origin: str | os.PathLike[str]) -> None:
    """Say what could not be used.

    Raises:
        UserError: nothing could.
    """
    if rejected.total:
        logger.warning(rejected.describe(rejected.total + before.interactions, "records"))
    if not before.interactions:
        found = rejected.describe(rejected.total, "records") if rejected.total else "it has no records"
        raise UserError(f"{origin} has no interaction to use: {found}")
    logger.info(
        "read %s interactions of %s users with %s items",
        f"{before.interactions:,}",
        f"{before.users:,}",
        f"{before.items:,}",
    )


def _nothing_left(before: Sizes, left: Mapping[str, int]) -> str:
    steps = ", ".join(f"{number:,} after {rule!r}" for rule, number in left.items())
    lower = "lower --min-user and --min-item, or give more data"
    return f"no interaction is left of {before.interactions:,}: {steps}; {lower}"
