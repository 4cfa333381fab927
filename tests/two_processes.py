"""Run a function in two processes that form one gloo group."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import timedelta
from multiprocessing import get_context
from typing import Any

import torch
from torch import distributed as dist


def in_two_processes(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``function(*arguments)`` in both; returns what rank 0 and rank 1 return: numbers and arrays, no tensors."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        calls = [pool.submit(_join, rank, f"{folder}/group", function, arguments) for rank in range(2)]
        for call in as_completed(calls, timeout=180):  # the first to fail says why; the other misses it
            call.result()
        return [call.result() for call in calls]


def _join(rank: int, file: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    try:
        return function(*arguments)
    finally:
        dist.destroy_process_group()
