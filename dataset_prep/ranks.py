"""Several processes that share the work of a step: started by torchrun on one host or many, with one shared folder.

They agree through torchrun's key-value store, not through a process group: its collectives give up after some minutes,
and the first rank may well join shards, or fetch pictures, for hours. A process that dies is torchrun's business: it
ends the others.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from recbole_msm4sr.core.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store

Result = TypeVar("Result")

_POLL = 0.05  # seconds between two looks at the store
_STORE_TIMEOUT = timedelta(minutes=15)  # of reaching the store at all


def world_size() -> int:
    """Number of processes; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def own_device(device: str | None = None) -> str:
    """The device of this process: ``device``, or a GPU if there is one; of several GPUs, the one with the local rank.

    ``cuda`` stands for a GPU of this process's own, ``cuda:1`` and ``cpu`` for just that.

    Raises:
        UserError: there is no such device.
    """
    import torch

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        kind = torch.device(chosen).type
    except RuntimeError as error:
        raise UserError(f"there is no device {chosen!r}: give cpu, cuda, or cuda:1") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"the device {chosen} is not here: torch finds no GPU; leave the device out, or give cpu")
    if chosen == "cuda" and world_size() > 1:
        return f"cuda:{int(os.environ['LOCAL_RANK']) % max(1, torch.cuda.device_count())}"
    return chosen


def once(work: Callable[[], Result]) -> Result:
    """Run ``work`` on rank 0 alone and return what it returns, on every rank; the others wait, however long.

    Every rank has to come here as often as every other, in the same order.

    Args:
        work: returns what JSON can hold.
    """
    if world_size() == 1:
        return work()
    name = _next_name()
    if rank() == 0:
        value = work()
        _store().set(name, json.dumps(value))
        return value
    while not _store().check([name]):
        time.sleep(_POLL)
    return json.loads(_store().get(name))


def barrier() -> None:
    """Wait until every rank has come here."""
    if world_size() == 1:
        return
    name = _next_name()
    _store().add(name, 1)
    while _store().add(name, 0) < world_size():
        time.sleep(_POLL)


def claims(count: int) -> Iterator[int]:
    """Numbers below ``count``, ascending: each goes to the one rank that asks for it first.

    A slow rank takes fewer. Every rank has to come here as often as every other, in the same order.
    """
    if world_size() == 1:
        yield from range(count)
        return
    name = _next_name()
    while (number := _store().add(name, 1) - 1) < count:
        yield number


class SharedCount:
    """A count that all ranks add to. Made on every rank, in the same order as everything else here."""

    def __init__(self) -> None:
        self._own = 0
        self._name = _next_name() if world_size() > 1 else ""

    def add(self, amount: int) -> int:
        """Add ``amount``; returns the sum of what all ranks have added so far."""
        self._own += amount
        return self._own if world_size() == 1 else _store().add(self._name, amount)


_calls = itertools.count()


def _next_name() -> str:
    """A name in the store: the same on every rank, for all have made the same calls before."""
    return f"call {next(_calls)}"


@functools.cache
def _store() -> Store:
    """The store that torchrun has opened for this launch; it starts empty."""
    from torch import distributed as dist

    store, _, _ = next(dist.rendezvous("env://", timeout=_STORE_TIMEOUT))
    return dist.PrefixStore("dataset_prep", store)
