"""Apply rules to spooled events, in passes over buckets that each hold all events of a user, or of an item."""

from __future__ import annotations

from collections import Counter
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_prep.interactions.event_files import EVENT, blocks, by, count, frequencies, partition
from dataset_prep.interactions.rules import Rules
from dataset_prep.interactions.table_one import Sizes


def sort_by_user(records: Path, folder: Path) -> list[Path]:
    """Move the events of a file into files in ``folder``: a user's are in one, by item, then time, then file order."""
    parts: list[Path] = []
    for bucket in partition(records, by("user")):
        events = np.fromfile(bucket, EVENT)
        parts.append(folder / f"users-{len(parts)}.bin")
        order = np.lexsort((events["place"], events["time"], events["item"], events["user"]))
        parts[-1].write_bytes(events[order].tobytes())
    records.unlink()
    return parts


def apply_rules(parts: list[Path], rules: Rules, items: NDArray[np.int64] | None, target: Path) -> dict[str, int]:
    """Write the events that stay to ``target``, in no particular order.

    Args:
        parts: what :func:`sort_by_user` returned; they are left as they are.
        items: hashes of the items of the rules' item set, sorted; None if there is no such set.
        target: beside it are the passes' own files meanwhile.

    Returns:
        Rule in words -> how many events were left after it, in order.
    """
    left: Counter[str] = Counter()
    with open(target, "wb") as file:
        for part in parts:
            events = np.fromfile(part, EVENT)
            if items is not None:
                events = events[_is_in(events["item"], items)]
                left[f"items with {rules.item_set}"] += len(events)
            events = events[_without_repeats(events, rules)]
            left[rules.describe_repeats()] += len(events)
            events = events[_run_lengths(events["user"]) >= rules.min_user]
            left[f"users >= {rules.min_user}"] += len(events)
            file.write(events.tobytes())
    if rules.min_item:
        return {**left, **_core(target, rules)}
    return dict(left)


def _core(target: Path, rules: Rules) -> dict[str, int]:
    """Drop rare items, then users who became rare, and so on; the users have been seen to once."""
    for field, least in cycle((("item", rules.min_item), ("user", rules.min_user))):
        before = count(target)
        _keep_frequent(target, field, least)
        if not rules.to_fixed_point:
            return {f"items >= {rules.min_item}": count(target)}
        if count(target) == before:
            break
    return {f"users >= {rules.min_user} and items >= {rules.min_item}, to a fixed point": count(target)}


def _keep_frequent(source: Path, field: str, least: int) -> None:
    """Drop the events of users (items) with fewer than ``least``, in the file itself."""
    target = source.with_suffix(".next")
    with open(target, "wb") as file:
        for bucket in partition(source, by(field)):
            values, frequency = frequencies(bucket, field)
            frequent = values[frequency >= least]
            for events in blocks(bucket):
                file.write(events[_is_in(events[field], frequent)].tobytes())
    target.replace(source)


def sizes(source: Path) -> Sizes:
    """How many users, items and events are in a file."""
    users, items = (
        sum(len(frequencies(bucket, field)[0]) for bucket in partition(source, by(field))) for field in ("user", "item")
    )
    return Sizes(users, items, count(source))


def _is_in(values: NDArray[np.int64], allowed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each value is among the sorted ``allowed`` ones; without the copies that ``np.isin`` makes."""
    if not len(allowed):
        return np.zeros(len(values), dtype=bool)
    return allowed[np.minimum(np.searchsorted(allowed, values), len(allowed) - 1)] == values


def _without_repeats(events: NDArray, rules: Rules) -> NDArray[np.bool_]:
    """Which of the events, sorted by user, item and time, stay."""
    starts = np.ones(len(events) + 1, dtype=bool)  # whether an event is another one than the event before it
    if rules.repeats == "all":
        return starts[:-1]
    fields = ["user", "item", "time"] if rules.repeats == "distinct" else ["user", "item"]
    starts[1:-1] = np.any([events[field][1:] != events[field][:-1] for field in fields], axis=0)
    return starts[1:] if rules.repeats == "last" else starts[:-1]


def _run_lengths(values: NDArray) -> NDArray[np.int64]:
    """For every value of a sorted array, how often it occurs; int64 of the same length."""
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1]))) if len(values) else np.zeros(0, int)
    lengths = np.diff(np.append(starts, len(values)))
    return np.repeat(lengths, lengths)
