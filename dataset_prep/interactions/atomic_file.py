"""RecBole's atomic file of interactions: write it from event files, and read it again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_prep.interactions.event_files import EVENT, Spool, blocks, by, count, partition
from dataset_prep.progress import progress_bar
from dataset_prep.readers.lines import read_lines
from recbole_msm4sr.core.errors import UserError

HEADER = b"user_id:token\titem_id:token\ttimestamp:float\n"
#: An event, and the place of its user's first one.
_ORDERED = np.dtype([*EVENT.descr, ("first", "<i8")])
_BINS = 2**16


def write_interactions(target: Path, kept: Path, spooled: Spool) -> None:
    """Write the kept events: users in the order of their first event in the input, each user's events by time.

    Events of a user at the same time stay in the order of the input. Times are in the shortest form that float64
    reads back as the same number.
    """
    ordered = kept.with_suffix(".ordered")
    _with_first_place(kept, ordered)
    n_bytes = spooled.names.stat().st_size
    with (
        open(target, "wb") as file,
        open(spooled.names, "rb") as names,
        progress_bar(count(kept), " lines", "writing", unit_scale=True) as bar,
    ):
        file.write(HEADER)
        for bucket in partition(ordered, _stretches(ordered, n_bytes), _ORDERED):
            events = np.fromfile(bucket, _ORDERED)
            events = events[np.argsort(events["place"])]  # so that the names are read from front to back
            lines = np.empty(len(events), dtype=object)
            for index, place in enumerate(events["place"].tolist()):
                names.seek(place)
                lines[index] = names.readline()
            order = np.lexsort((events["time"], events["first"]))  # stable: equal times stay in order
            for line, time in zip(lines[order], events["time"][order].tolist(), strict=True):
                file.write(b"%b\t%b\n" % (line[:-1], _number(time)))
            bar.update(len(events))
    ordered.unlink()


def _with_first_place(kept: Path, ordered: Path) -> None:
    """Add to every event where its user's first one stands."""
    with open(ordered, "wb") as file:
        for bucket in partition(kept, by("user")):
            events = np.fromfile(bucket, EVENT)
            events = events[np.argsort(events["place"])]
            _, first, code = np.unique(events["user"], return_index=True, return_inverse=True)
            records = np.empty(len(events), _ORDERED)
            records[list(EVENT.names or ())] = events
            records["first"] = events["place"][first][code]
            file.write(records.tobytes())


def _stretches(ordered: Path, n_bytes: int) -> Callable[[NDArray, int], NDArray]:
    """For ``partition``: users who come one after the other share a bucket; all buckets are about equally full.

    Busy users come early, so stretches of the input of the same length would not do.
    """

    def bin_of(events: NDArray) -> NDArray[np.int64]:
        return events["first"] * _BINS // n_bytes

    in_bin = np.zeros(_BINS, np.int64)
    for events in blocks(ordered, _ORDERED):
        in_bin += np.bincount(bin_of(events), minlength=_BINS)
    before = np.cumsum(in_bin) - in_bin
    total = int(in_bin.sum())
    return lambda events, n_buckets: (before * n_buckets // total)[bin_of(events)]


def _number(time: float) -> bytes:
    """A finite number as text, whole ones without a point."""
    return (b"%d" % int(time)) if time.is_integer() else repr(time).encode()


def interaction_items(path: str | os.PathLike[str]) -> list[str]:
    """The items of an atomic file of interactions, each once, in the order of their first appearance.

    Raises:
        UserError: the file is missing, or is no such file.
    """
    lines = read_lines(path)
    _, header = next(lines, (1, b""))
    fields = header.decode("utf-8-sig", errors="replace").rstrip("\r\n").split("\t")
    if not {"user_id:token", "item_id:token"} <= set(fields):
        raise UserError(f"{path}: the first line lacks user_id:token or item_id:token: it is no file of interactions")
    place = fields.index("item_id:token")
    items: dict[str, None] = {}
    for number, line in lines:
        cells = line.rstrip(b"\r\n").split(b"\t")
        if len(cells) != len(fields):
            raise UserError(f"{path}:{number}: has {len(cells)} cells, not {len(fields)} as the header: mend the line")
        try:
            items[cells[place].decode()] = None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{number}: is not UTF-8 text ({error.reason})") from error
    return list(items)
