"""Feature rows of a memory-mapped array: read into memory at once, or left in their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recbole_msm4sr.core.errors import UserError

_ROWS_READ_AT_ONCE = 1 << 15


def read_rows(
    store: Path, values: npt.NDArray[np.float16], row_index: npt.NDArray[np.int64]
) -> npt.NDArray[np.float16]:
    """``values[row_index]``, float16 ``[R, d]``, read and checked block by block.

    Args:
        store: the folder that the values are from, named in the error.
        values: float16 ``[n, d]``, memory-mapped.
        row_index: int64 ``[R]``.

    Raises:
        UserError: a row holds NaN or infinity.
    """
    rows = np.empty((len(row_index), values.shape[1]), dtype=np.float16)
    for begin in range(0, len(rows), _ROWS_READ_AT_ONCE):
        block = slice(begin, begin + _ROWS_READ_AT_ONCE)
        np.take(values, row_index[block], axis=0, out=rows[block], mode="clip")  # other modes buffer the result
        if not np.isfinite(rows[block]).all():
            raise UserError(f"feature store {store} holds NaN or infinity: run msm4sr features check {store}")
    return rows


class MappedRows:
    """Rows of a memory-mapped array, read when they are asked for; stands where a tensor ``[R, d]`` would.

    Args:
        values: float16 ``[n, d]``, memory-mapped.
        row_index: row i of this object is ``values[row_index[i]]``; int64 ``[R]``.
    """

    def __init__(self, values: npt.NDArray[np.float16], row_index: npt.NDArray[np.int64]) -> None:
        self.values, self.row_index = values, row_index

    def __len__(self) -> int:
        return len(self.row_index)

    @property
    def shape(self) -> torch.Size:
        """``[R, d]``."""
        return torch.Size([len(self), self.values.shape[1]])

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The rows ``index`` int64 ``[r]`` as a tensor float16 ``[r, d]`` on the index's device."""
        if dim != 0:
            raise ValueError(f"only rows can be selected, not dimension {dim}")
        rows = self.values[self.row_index[index.cpu().numpy()]]
        return torch.from_numpy(rows).to(index.device)
