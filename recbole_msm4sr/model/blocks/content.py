"""Which items have the same content, and which have none."""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise

import torch
from torch import Tensor


def content_ids(values: Tensor, offsets: Tensor) -> Tensor:
    """A number for every item's content: equal for items whose feature rows are equal, -1 for an item without rows.

    Args:
        values: all rows, one item after the other; float ``[R, d]`` on the CPU.
        offsets: item i owns ``values[offsets[i]:offsets[i + 1]]``; int64 ``[n_items + 1]``.

    Returns:
        int64 ``[n_items]``: the first item with that content, or -1.
    """
    rows = values.contiguous().numpy()
    first: dict[bytes, int] = {}
    ids = [
        first.setdefault(blake2b(rows[begin:end].tobytes()).digest(), item) if end > begin else -1
        for item, (begin, end) in enumerate(pairwise(offsets.tolist()))
    ]
    return torch.tensor(ids)
