"""Which users have most items in common, without a matrix of all pairs of users."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from recbole_msm4sr.model.baselines.sparse_graph import SparseGraph


def co_occurrence(
    interactions: SparseGraph, n_neighbors: int, entries_at_once: int = 1 << 23
) -> tuple[SparseGraph, Tensor]:
    """Graph of every user (row) and the users (columns) that share most items with it.

    The number of items in common decides, then the smaller id; a user who shares nothing has no edge.

    Args:
        interactions: users (rows) and their items (columns).
        n_neighbors: most edges of a user.
        entries_at_once: most entries of a block of the product, as far as single users allow.

    Returns:
        The graph, and the number of common items of every edge, int64 ``[E]``.
    """
    n_users, n_items = interactions.n_rows, interactions.n_columns
    users, items = interactions.rows.numpy(), interactions.columns.numpy()
    shape = (n_users, n_items)
    matrix = sparse.csr_array((np.ones(len(users), dtype=np.int32), (users, items)), shape=shape)
    transposed = matrix.T.tocsr()
    best = [np.empty((3, 0), dtype=np.int64)]
    for begin, end in _blocks(matrix, transposed, entries_at_once):
        product = (matrix[begin:end] @ transposed).tocoo()
        row, column, count = product.row + begin, product.col, product.data
        others = row != column
        best.append(_largest(row[others], column[others], count[others], n_users, n_neighbors))
    user, neighbor, common = np.concatenate(best, axis=1)
    order = np.lexsort((neighbor, user))  # a SparseGraph's
    graph = SparseGraph(torch.from_numpy(user), torch.from_numpy(neighbor), n_users, n_users)
    return graph, torch.from_numpy(common[order])


def _blocks(matrix: sparse.csr_array, transposed: sparse.csr_array, entries_at_once: int) -> Iterator[tuple[int, int]]:
    """Ranges of users whose products with all users have at most ``entries_at_once`` entries, or of one user."""
    entries = np.concatenate([[0], (matrix @ np.diff(transposed.indptr)).cumsum()])  # a bound
    begin = 0
    while begin < matrix.shape[0]:
        end = int(np.searchsorted(entries, entries[begin] + entries_at_once, side="right")) - 1
        end = max(end, begin + 1)
        yield begin, end
        begin = end


def _largest(
    row: NDArray[np.int64], column: NDArray[np.int32], count: NDArray[np.int32], n_columns: int, k: int
) -> NDArray[np.int64]:
    """The k entries of the largest count in every row, and of those the first columns; int64 ``[3, n]``."""
    # One sort of integers that order as (row, falling count, column): several times as fast as np.lexsort.
    most = int(count.max(initial=0))
    keys = np.sort((row.astype(np.int64) * (most + 1) + (most - count)) * n_columns + column)
    pair, column_of = np.divmod(keys, n_columns)
    row_of, missing = np.divmod(pair, most + 1)
    starts = np.searchsorted(row_of, row_of, side="left")
    kept = np.arange(len(keys)) - starts < k
    return np.stack([row_of[kept], column_of[kept], most - missing[kept]])
