"""How much of this machine's measured speed a figure uses: its matrix products by PyTorch's own count, over its time.

The products of attention kernels are counted where PyTorch has a formula for them; what is not a product (dropout,
LayerNorm, optimisers) counts as no work, so the fraction errs on the low side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import progress, synchronize


@dataclass(frozen=True)
class Machine:
    """Measured speed.

    Attributes:
        float32, bfloat16: GFLOP/s of a large matrix product.
        copy: GB/s of a copy, read plus written.
        threads: that torch uses.
        device: cpu, or the GPU's name.
    """

    float32: float
    bfloat16: float
    copy: float
    threads: int
    device: str


@functools.cache
def machine() -> Machine:
    """Measure this machine, once a process; on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = 8192 if device.type == "cuda" else 2048
    speeds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(size, size, device=device).to(dtype)
        speeds[dtype] = 2 * size**3 / _best_seconds(functools.partial(torch.mm, a, a)) / 1e9
    source = torch.ones(2**27, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.numel() / _best_seconds(functools.partial(target.copy_, source)) / 1e9
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    found = Machine(speeds[torch.float32], speeds[torch.bfloat16], copy, torch.get_num_threads(), name)
    progress(
        f"  this machine: {found.float32:,.0f} GFLOP/s in float32, {found.bfloat16:,.0f} in bfloat16, "
        f"copies {found.copy:,.1f} GB/s ({found.threads} threads, {found.device})"
    )
    return found


def _best_seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Shortest of some runs: the roof is what the machine can do, not what it does while it is busy elsewhere."""
    seconds = []
    for _ in range(repeats + 1):
        synchronize()
        began = perf_counter()
        work()
        synchronize()
        seconds.append(perf_counter() - began)
    return min(seconds[1:])


def flop_of(work: Callable[[], float]) -> float:
    """Floating point operations of the matrix products in ``work``, for each unit of the amount that it returns."""
    with FlopCounterMode(display=False) as counter:
        amount = work()
    return counter.get_total_flops() / amount


def report(flop: float, rate: float) -> dict[str, Any]:
    """The JSON key ``roofline`` of a rate (pairs or users a second) whose every unit needs ``flop`` operations."""
    roof = machine()
    entry: dict[str, Any] = {"flop": flop, "machine": asdict(roof)}
    for precision, speed in (("", roof.float32), ("_bfloat16", roof.bfloat16)):
        attainable = speed * 1e9 / flop
        entry |= {f"attainable{precision}": attainable, f"achieved{precision}": rate / attainable}
    return entry
