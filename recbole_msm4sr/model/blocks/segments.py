"""Values that belong to segments: an item's feature rows, a node's edges."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_of_rows(offsets: Tensor, n_rows: int) -> Tensor:
    """The segment of every row, int64 ``[R]``.

    Args:
        offsets: segment i owns the rows ``offsets[i]:offsets[i + 1]``; int64 ``[n + 1]``.
        n_rows: R, which is ``offsets[-1]``; given, so that nothing waits for a device.
    """
    return torch.arange(len(offsets) - 1, device=offsets.device).repeat_interleave(offsets.diff(), output_size=n_rows)


def segment_softmax(logits: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Softmax within every segment, float ``[R]``.

    Args:
        logits: float ``[R]``, of any size: the largest of a segment is subtracted first.
        segment: int64 ``[R]``.
        n_segments: a segment may be empty.
    """
    with torch.no_grad():
        largest = logits.new_full((n_segments,), -torch.inf).scatter_reduce_(0, segment, logits, "amax")
    exponentials = (logits - largest[segment]).exp()
    sums = logits.new_zeros(n_segments).index_add(0, segment, exponentials)
    return exponentials / sums[segment]
