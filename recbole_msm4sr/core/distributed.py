"""The processes of one run: several under torchrun, one a device; otherwise this one alone.

Every process loads the data, builds the same model and takes part in training and evaluation. The first, rank 0, alone
writes files, logs and prints.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
from torch import distributed as dist

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.model.parallel import rank, world_size

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_TIMEOUT = timedelta(minutes=15)  # of the longest wait for another process: loading data, writing a checkpoint

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def under_torchrun() -> bool:
    """Whether torchrun has started this process, and others beside it."""
    return all(name in os.environ for name in _TORCHRUN) and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Belong to torchrun's process group while the block runs; a group that the caller made is used as it is.

    If the block fails the group is left as it is: the process is to end, and torchrun to end the others.

    Args:
        device: this process's, a GPU (NCCL) or the CPU (gloo).

    Raises:
        UserError: some processes have a GPU and others do not.
    """
    if not under_torchrun() or dist.is_initialized():
        yield
        return
    # Optimisers import it. First imported beside a group, it keeps that group alive, and threads into Python's end.
    importlib.import_module("torch._dynamo")
    number, n_processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    _store().set(f"device of {number}", device.type)
    n_gpus = [_store().get(f"device of {other}") for other in range(n_processes)].count(b"cuda")
    if n_gpus not in (0, n_processes):
        raise UserError(
            f"only {n_gpus} of {n_processes} processes have a GPU: start as many as there are GPUs, or set use_gpu "
            "to false"
        )
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if n_gpus else "gloo",
        store=_store(),
        rank=number,
        world_size=n_processes,
        timeout=_TIMEOUT,
    )
    yield
    gc.collect()  # trainers hold the group
    dist.destroy_process_group()


def own_gpu(gpu_id: Any) -> Any:
    """``gpu_id``; under torchrun, this process's GPU of those that it lists, where a single one begins the list.

    Args:
        gpu_id: RecBole's setting: ``0``, ``0,1``, or nothing for the CPU.

    Raises:
        UserError: torchrun starts more processes on this machine than GPUs are listed.
    """
    listed = [name.strip() for name in str(gpu_id).strip("()").split(",") if name.strip()]
    if not under_torchrun() or not listed:
        return gpu_id
    n_local, own = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    if len(listed) == 1:
        listed = [str(int(listed[0]) + number) for number in range(n_local)]
    if len(listed) < n_local:
        raise UserError(f"gpu_id lists {len(listed)} GPUs for {n_local} processes: list as many, one a process")
    return listed[own]


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


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        dist.all_reduce(torch.zeros(()))


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block on the first process, then on the others: they find what it has made."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def share(value: Result) -> Result:
    """The first process's value on every process.

    Args:
        value: what JSON can hold.
    """
    if world_size() == 1:
        return value
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    size = torch.tensor(len(text))
    dist.broadcast(size, src=0)
    if not is_main():
        text = torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(text, src=0)
    return json.loads(text.numpy().tobytes())


def first_to_fail() -> bool:
    """Whether no other process has failed before this one: the first tells why, for all."""
    return not under_torchrun() or _store().add("failed", 1) == 1


@functools.cache
def _store() -> dist.Store:
    store, _, _ = next(dist.rendezvous("env://", timeout=_TIMEOUT))
    return store
