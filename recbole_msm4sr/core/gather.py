"""Rows, sums and means over the processes of data-parallel training; in one process, over that one.

DistributedDataParallel averages gradients over the processes. A loss that is a mean over the rows of all processes
must therefore be scaled by their number: ``global_mean``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from recbole_msm4sr.core.distributed import rank, world_size


def gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The rows of all processes: first this process's own, so that own row j stays row j, then the others'.

    Gradients flow back to the process that a row is from, summed over the processes that used it.

    Args:
        tensors: each ``[P, ...]`` with the same P, which may differ between processes and may be 0.

    Returns:
        The tensors as ``[ΣP, ...]``.
    """
    if world_size() == 1:
        return tensors
    counts = torch.zeros(world_size(), dtype=torch.int64, device=tensors[0].device)
    counts[rank()] = len(tensors[0])
    dist.all_reduce(counts)
    return tuple(_GatherRows.apply(tensor, counts.tolist()) for tensor in tensors)


def global_mean(total: Tensor, count: int | Tensor) -> Tensor:
    """Mean over the rows of all processes, for a loss whose gradients are averaged over the processes.

    Args:
        total: sum over this process's rows, scalar.
        count: number of its rows; an integer, or an integer tensor where a device counts them.

    Returns:
        A scalar whose average over the processes is the mean over all rows; 0 where there are none.
    """
    if world_size() == 1:
        return total / (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))
    counts = torch.as_tensor(count, device=total.device).to(torch.float64, copy=True)
    dist.all_reduce(counts)
    return total * (world_size() / counts.clamp(min=1)).to(total.dtype)


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum of a tensor of the same shape on every process; no gradient."""
    if world_size() > 1:
        dist.all_reduce(values := values.clone())
    return values


@torch.no_grad()
def synchronise(model: nn.Module) -> None:
    """Give every process the weights of the first."""
    if world_size() > 1:
        for parameter in model.parameters():
            dist.broadcast(parameter, src=0)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        longest = max(counts)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(gathered, padded)
        return torch.cat([gathered[number][: counts[number]] for number in _own_first(len(counts))])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (gradient,) = grad_outputs
        counts = ctx.counts
        own_first = _own_first(len(counts))
        parts = dict(zip(own_first, gradient.split([counts[number] for number in own_first]), strict=True))
        gradient = torch.cat([parts[number] for number in range(len(counts))])  # the same order on every process
        dist.all_reduce(gradient)
        return gradient.split(counts)[rank()], None


def _own_first(n_ranks: int) -> list[int]:
    own = rank()
    return [own, *(number for number in range(n_ranks) if number != own)]
