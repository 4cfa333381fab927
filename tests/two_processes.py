"""Run a function in two processes of one command, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch

from recbole_msm4sr.core.distributed import joined


def in_two_processes(function: Callable[..., Any], *arguments: Any, joins: bool = True) -> list[Any]:
    """Call ``function(*arguments)`` in both; returns what rank 0 and rank 1 return: numbers and arrays, no tensors.

    Args:
        joins: whether the processes form a gloo group.
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        calls = [pool.submit(_call, rank, port, joins, function, arguments) for rank in range(2)]
        try:
            for call in as_completed(calls, timeout=180):  # the first to fail says why
                call.result()
        except BaseException:
            for process in multiprocessing.active_children():  # the other waits for it
                process.terminate()
            raise
        return [call.result() for call in calls]


def _call(rank: int, port: int, joins: bool, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"})
    os.environ.update({"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)})
    if not joins:
        return function(*arguments)
    with joined(torch.device("cpu")):
        return function(*arguments)
