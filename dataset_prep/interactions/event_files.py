"""Events on disk as records of a fixed width, and passes over them in memory that does not grow with their number.

A user or an item is a 64-bit hash here. Two with the same one (among 10 million, a chance of 3 in a million) would be
counted as one; their names are read from the file of names, so they would still be written as two.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from dataset_prep.readers.events import Event

#: ``place`` is where the event's names stand in the file of names; it grows with the order of the events.
EVENT = np.dtype([("user", "<i8"), ("item", "<i8"), ("time", "<f8"), ("place", "<i8")])
#: Events that are held in memory at a time: 8 MiB of them, and a few times as much while they are sorted.
CAPACITY = 2**18


@dataclass(frozen=True)
class Spool:
    """All events as they were read: records, and a line ``user TAB item`` for each."""

    records: Path
    names: Path


def spool(events: Iterable[Event], folder: Path) -> Spool:
    """Write the events to two files in ``folder``.

    Hashes are Python's own, which differ from process to process: the files are for this one alone.
    """
    spooled = Spool(folder / "events.bin", folder / "names.txt")
    users, items, times, places = array("q"), array("q"), array("d"), array("q")
    place = 0

    def flush() -> None:
        block = np.empty(len(users), EVENT)
        block["user"], block["item"], block["time"], block["place"] = users, items, times, places
        records.write(block.tobytes())
        for column in (users, items, places):
            del column[:]
        del times[:]

    with open(spooled.records, "wb") as records, open(spooled.names, "wb") as names:
        for user, item, time in events:
            users.append(hash(user))
            items.append(hash(item))
            times.append(time)
            places.append(place)
            place += names.write(f"{user}\t{item}\n".encode())
            if len(users) >= CAPACITY:
                flush()
        flush()
    return spooled


def hashes(tokens: Collection[str]) -> NDArray[np.int64]:
    """The hashes by which events know these users or items, sorted; int64 ``[tokens]``."""
    return np.sort(np.fromiter(map(hash, tokens), np.int64, len(tokens)))


def count(source: Path, dtype: np.dtype = EVENT) -> int:
    """Number of records in a file."""
    return source.stat().st_size // dtype.itemsize


def blocks(source: Path, dtype: np.dtype = EVENT) -> Iterator[NDArray]:
    """A file's records, at most ``CAPACITY`` at a time."""
    with open(source, "rb") as file:
        while len(block := np.fromfile(file, dtype, CAPACITY)):
            yield block


def partition(source: Path, bucket_of: Callable[[NDArray, int], NDArray], dtype: np.dtype = EVENT) -> Iterator[Path]:
    """Deal a file's records out to files of about ``CAPACITY``, which keep its order, and yield these one by one.

    Args:
        source: is left as it is; beside it are the buckets' files, each until the next is asked for.
        bucket_of: maps records and the number of buckets to the bucket of every record.
    """
    n_buckets = -(-count(source, dtype) // CAPACITY)
    if n_buckets <= 1:
        yield source
        return
    with TemporaryDirectory(dir=source.parent) as folder:
        paths = [Path(folder) / str(number) for number in range(n_buckets)]
        for block in blocks(source, dtype):
            bucket = bucket_of(block, n_buckets)
            ends = np.cumsum(np.bincount(bucket, minlength=n_buckets))
            block = block[np.argsort(bucket, kind="stable")]
            for path, part in zip(paths, np.split(block, ends[:-1]), strict=True):
                if len(part):
                    with open(path, "ab") as file:  # not kept open: there may be more than a process may open
                        file.write(part.tobytes())
        for path in paths:
            if path.exists():
                yield path
                path.unlink()


def by(field: str) -> Callable[[NDArray, int], NDArray]:
    """For :func:`partition`: all events of a user (an item) go to the same bucket."""
    return lambda events, n_buckets: (events[field].astype(np.uint64) % np.uint64(n_buckets)).astype(np.int64)


def frequencies(source: Path, field: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The users (items) of a file, sorted, and how often each occurs; int64 ``[distinct]`` both."""
    values, frequency = np.empty(0, np.int64), np.empty(0, np.int64)
    for events in blocks(source):
        more = np.unique(events[field], return_counts=True)
        values, code = np.unique(np.concatenate([values, more[0]]), return_inverse=True)
        frequency = np.bincount(code, np.concatenate([frequency, more[1]]), len(values)).astype(np.int64)
    return values, frequency
