"""A fixed sparse graph between two kinds of nodes, and the few operations of graph networks on it.

Everything is a product of sparse and dense matrices: no tensor of one vector an edge is ever made, which on a CPU is
most of the time that gathering and scattering take.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_msm4sr.model.blocks.segments import segment_softmax

# torch warns of all its CSR tensors, on every run, and no user can prevent it
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


class SparseGraph(nn.Module):
    """Edges between row nodes (users) and column nodes (items, or users again), as buffers that are not saved.

    Edges are kept in the order of their row, then column; a value an edge is float ``[E]`` in that order.

    Args:
        rows: the edges' row nodes, int64 ``[N]``; an edge given several times is one.
        columns: their column nodes, int64 ``[N]``.
        n_rows: number of row nodes.
        n_columns: number of column nodes.

    Attributes:
        rows, columns: as given, sorted and each edge once; int64 ``[E]``.
    """

    rows: Tensor
    columns: Tensor
    _row_start: Tensor
    _column_start: Tensor
    _by_column: Tensor
    _rows_by_column: Tensor

    def __init__(self, rows: Tensor, columns: Tensor, n_rows: int, n_columns: int) -> None:
        super().__init__()
        self.n_rows, self.n_columns = n_rows, n_columns
        row, column = np.divmod(np.unique(rows.numpy() * n_columns + columns.numpy()), n_columns)
        by_column = np.argsort(column, kind="stable")
        tensors = {
            "rows": row,
            "columns": column,
            "_row_start": _starts(row, n_rows),
            "_column_start": _starts(column, n_columns),
            "_by_column": by_column,
            "_rows_by_column": row[by_column],
        }
        for name, values in tensors.items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def products(self, row_vectors: Tensor, column_vectors: Tensor) -> Tensor:
        """Inner product of every edge's two nodes, float ``[E]``.

        Args:
            row_vectors: float ``[n_rows, d]``.
            column_vectors: float ``[n_columns, d]``.
        """
        return _Products.apply(row_vectors, column_vectors, self)

    def to_rows(self, weights: Tensor, column_vectors: Tensor) -> Tensor:
        """For every row node the weighted sum of its neighbours, float ``[n_rows, d]``; zeros without neighbours.

        Args:
            weights: of the edges, float ``[E]``.
            column_vectors: float ``[n_columns, d]``.
        """
        return _WeightedSum.apply(weights, column_vectors, self, True)

    def to_columns(self, weights: Tensor, row_vectors: Tensor) -> Tensor:
        """``to_rows`` the other way, float ``[n_columns, d]`` from float ``[n_rows, d]``."""
        return _WeightedSum.apply(weights, row_vectors, self, False)

    def softmax_in_rows(self, logits: Tensor) -> Tensor:
        """Softmax over the edges of every row node, float ``[E]``."""
        return segment_softmax(logits, self.rows, self.n_rows)

    def softmax_in_columns(self, logits: Tensor) -> Tensor:
        """Softmax over the edges of every column node, float ``[E]``."""
        return segment_softmax(logits, self.columns, self.n_columns)

    def symmetric_weights(self) -> Tensor:
        """``1 / sqrt(degree of the row · degree of the column)``, LightGCN's, float ``[E]``."""
        row_degree, column_degree = self._row_start.diff(), self._column_start.diff()
        return (row_degree[self.rows] * column_degree[self.columns]).float().rsqrt()

    def _matrix(self, weights: Tensor, of_rows: bool) -> Tensor:
        """The weights as a CSR matrix ``[n_rows, n_columns]``, or transposed."""
        if of_rows:
            parts, size = (self._row_start, self.columns, weights), (self.n_rows, self.n_columns)
        else:
            parts = (self._column_start, self._rows_by_column, weights[self._by_column])
            size = (self.n_columns, self.n_rows)
        return torch.sparse_csr_tensor(*parts, size=size, check_invariants=False)

    def _products(self, row_vectors: Tensor, column_vectors: Tensor) -> Tensor:
        pattern = self._matrix(row_vectors.new_zeros(len(self.rows)), of_rows=True)
        return torch.sparse.sampled_addmm(pattern, row_vectors.contiguous(), column_vectors.T, beta=0.0).values()


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, row_vectors: Tensor, column_vectors: Tensor, graph: SparseGraph) -> Tensor:
        ctx.graph = graph
        ctx.save_for_backward(row_vectors, column_vectors)
        return graph._products(row_vectors, column_vectors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        row_vectors, column_vectors = ctx.saved_tensors
        of_rows, of_columns, _ = ctx.needs_input_grad
        return (
            ctx.graph._matrix(grad, of_rows=True) @ column_vectors if of_rows else None,
            ctx.graph._matrix(grad, of_rows=False) @ row_vectors if of_columns else None,
            None,
        )


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, vectors: Tensor, graph: SparseGraph, to_rows: bool) -> Tensor:
        ctx.graph, ctx.to_rows = graph, to_rows
        ctx.save_for_backward(weights, vectors)
        return graph._matrix(weights, to_rows) @ vectors

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        weights, vectors = ctx.saved_tensors
        of_weights, of_vectors, *_ = ctx.needs_input_grad
        ends = (grad, vectors) if ctx.to_rows else (vectors, grad)
        return (
            ctx.graph._products(*ends) if of_weights else None,
            ctx.graph._matrix(weights, not ctx.to_rows) @ grad if of_vectors else None,
            None,
            None,
        )


def _starts(nodes: np.ndarray, n_nodes: int) -> np.ndarray:
    """Where every node's edges begin, and at last their number; int64 ``[n_nodes + 1]``."""
    return np.concatenate([[0], np.bincount(nodes, minlength=n_nodes).cumsum()])
