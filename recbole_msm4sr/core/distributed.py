"""The processes of one command: several if torchrun has started them, otherwise this one alone.

They agree through torchrun's key-value store: it is there without a process group (data sets are prepared without
torch's collectives, which give up after some minutes), and a wait may last hours. If a process dies,
torchrun ends the others. All processes must call the functions here equally often and in the same order.

Training needs a process group besides, for tensors: ``joined`` makes it, ``core.gather`` uses it.
"""

from __future__ import annotations

import functools
import gc
import importlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from recbole_msm4sr.core.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store

_POLL = 0.05  # seconds between two looks at the store
_TIMEOUT = timedelta(minutes=15)  # of reaching the store at all, and of a collective of the process group

Arguments = ParamSpec("Arguments")
Part = TypeVar("Part")
Result = TypeVar("Result")


def world_size() -> int:
    """Number of processes; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this process writes files, logs and prints."""
    return rank() == 0


def main_only(function: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Make a function do nothing on processes other than the first."""

    @functools.wraps(function)
    def on_main(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if is_main():
            function(*args, **kwargs)

    return on_main


def once(work: Callable[[], Result]) -> Result:
    """Run ``work`` on the first process alone and return what it returns on every one; the others wait, however long.

    Args:
        work: returns what JSON can hold.
    """
    if world_size() == 1:
        return work()
    name = _next_name()
    if is_main():
        value = work()
        _store().set(name, json.dumps(value))
        return value
    while not _store().check([name]):
        time.sleep(_POLL)
    return json.loads(_store().get(name))


def barrier() -> None:
    """Wait until every process has come here."""
    if world_size() == 1:
        return
    name = _next_name()
    _store().add(name, 1)
    while _store().add(name, 0) < world_size():
        time.sleep(_POLL)


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block on the first process, then on the others: they find what it has made."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def own_share(parts: Sequence[Part]) -> Sequence[Part]:
    """Every ``world_size()``-th part, beginning with this process's number: all processes together have each once."""
    return parts[rank() :: world_size()]


def claims(count: int) -> Iterator[int]:
    """Numbers below ``count``, ascending: each goes to the one process that asks first; a slow one takes fewer."""
    if world_size() == 1:
        yield from range(count)
        return
    name = _next_name()
    while (number := _store().add(name, 1) - 1) < count:
        yield number


class SharedCount:
    """A count that all processes add to."""

    def __init__(self) -> None:
        self._own = 0
        self._name = _next_name() if world_size() > 1 else ""

    def add(self, amount: int) -> int:
        """Add ``amount``; returns the sum of what all processes have added so far."""
        self._own += amount
        return self._own if world_size() == 1 else _store().add(self._name, amount)


def first_to_fail() -> bool:
    """Whether no other process has failed before this one: the first tells why, for all."""
    return world_size() == 1 or _store().add("failed", 1) == 1


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
        raise UserError(f"the device {chosen} is not available: torch finds no GPU; leave the device out, or give cpu")
    if kind not in ("cpu", "cuda"):
        try:
            torch.zeros(1, device=chosen).item()
        except (RuntimeError, NotImplementedError, AssertionError) as error:
            raise UserError(f"the device {chosen} cannot be used here: give cpu, cuda, or cuda:1") from error
    if kind == "cuda" and (torch.device(chosen).index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"the device {chosen} is not available: there are {torch.cuda.device_count()} GPUs, from cuda:0"
        )
    if chosen == "cuda" and world_size() > 1:
        return f"cuda:{int(os.environ['LOCAL_RANK']) % max(1, torch.cuda.device_count())}"
    return chosen


def own_gpu(gpu_id: Any) -> Any:
    """``gpu_id``; under torchrun, this process's GPU of those that it lists, where a single one begins the list.

    Args:
        gpu_id: RecBole's setting: ``0``, ``0,1``, or nothing for the CPU.

    Raises:
        UserError: torchrun starts more processes on this machine than GPUs are listed.
    """
    listed = [name.strip() for name in str(gpu_id).strip("()").split(",") if name.strip()]
    if world_size() == 1 or not listed:
        return gpu_id
    n_local, own = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    if len(listed) == 1:
        listed = [str(int(listed[0]) + number) for number in range(n_local)]
    if len(listed) < n_local:
        raise UserError(f"gpu_id lists {len(listed)} GPUs for {n_local} processes: list as many, one a process")
    return listed[own]


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Belong to a process group of all processes while the block runs; a group that is there already is used.

    If the block fails the group is left as it is: the process is to end, and torchrun to end the others.

    Args:
        device: this process's, a GPU (NCCL) or the CPU (gloo).

    Raises:
        UserError: some processes have a GPU and others do not.
    """
    from torch import distributed as dist

    if world_size() == 1 or dist.is_initialized():
        yield
        return
    # Optimisers import it. First imported beside a group, it keeps that group alive, and threads into Python's end.
    importlib.import_module("torch._dynamo")
    _store().set(f"device of {rank()}", device.type)
    n_gpus = [_store().get(f"device of {other}") for other in range(world_size())].count(b"cuda")
    if n_gpus not in (0, world_size()):
        raise UserError(
            f"only {n_gpus} of {world_size()} processes have a GPU: start as many as there are GPUs, or set use_gpu "
            "to false"
        )
    backend = "cpu:gloo,cuda:nccl" if n_gpus else "gloo"
    dist.init_process_group(backend, store=_store(), rank=rank(), world_size=world_size(), timeout=_TIMEOUT)
    yield
    gc.collect()  # trainers hold the group
    dist.destroy_process_group()


_calls = itertools.count()


def _next_name() -> str:
    """A name in the store: the same on every process, for all have made the same calls before."""
    return f"call {next(_calls)}"


@functools.cache
def _store() -> Store:
    """The store that torchrun has opened for this launch; it starts empty."""
    from torch import distributed as dist

    store, _, _ = next(dist.rendezvous("env://", timeout=_TIMEOUT))
    return dist.PrefixStore("msm4sr", store)
