"""Sparse graph operations, against dense matrices with zeros where there is no edge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from recbole_msm4sr.model.baselines.sparse_graph import SparseGraph

ROWS, COLUMNS = torch.tensor([4, 0, 2, 4, 0, 2, 1]), torch.tensor([1, 2, 0, 0, 2, 3, 2])  # row 3: no edge; (0, 2) twice
N_ROWS, N_COLUMNS, WIDTH = 5, 4, 3
EDGES = [(0, 2), (1, 2), (2, 0), (2, 3), (4, 0), (4, 1)]


@pytest.fixture
def graph() -> SparseGraph:
    return SparseGraph(ROWS, COLUMNS, N_ROWS, N_COLUMNS)


def vectors(n: int) -> Tensor:
    return torch.randn(n, WIDTH, dtype=torch.float64, requires_grad=True)


def weights() -> Tensor:
    return torch.randn(len(EDGES), dtype=torch.float64, requires_grad=True)


def dense(values: Tensor) -> Tensor:
    row, column = torch.tensor(EDGES).T
    return torch.zeros(N_ROWS, N_COLUMNS, dtype=torch.float64).index_put((row, column), values)


def test_edges_are_sorted_and_counted_once(graph: SparseGraph) -> None:
    assert list(zip(graph.rows.tolist(), graph.columns.tolist(), strict=True)) == EDGES


def test_products_are_those_of_the_two_ends(graph: SparseGraph) -> None:
    users, items = vectors(N_ROWS), vectors(N_COLUMNS)
    expected = [users[row] @ items[column] for row, column in EDGES]
    torch.testing.assert_close(graph.products(users, items), torch.stack(expected))


def test_sums_are_matrix_products_both_ways(graph: SparseGraph) -> None:
    values, users, items = weights(), vectors(N_ROWS), vectors(N_COLUMNS)
    torch.testing.assert_close(graph.to_rows(values, items), dense(values) @ items)
    torch.testing.assert_close(graph.to_columns(values, users), dense(values).T @ users)
    assert (graph.to_rows(values, items)[3] == 0).all()


def test_softmax_runs_over_the_edges_of_a_node(graph: SparseGraph) -> None:
    logits = weights().detach() * 300  # large enough to overflow without care
    absent = dense(torch.ones(len(EDGES), dtype=torch.float64)) == 0
    masked = dense(logits).masked_fill(absent, -torch.inf)
    row, column = torch.tensor(EDGES).T
    torch.testing.assert_close(graph.softmax_in_rows(logits), masked.softmax(dim=1)[row, column])
    torch.testing.assert_close(graph.softmax_in_columns(logits), masked.softmax(dim=0)[row, column])


def test_symmetric_weights_are_those_of_the_degrees(graph: SparseGraph) -> None:
    expected = [
        (n_of_row * n_of_column) ** -0.5 for n_of_row, n_of_column in [(1, 2), (1, 2), (2, 2), (2, 1), (2, 2), (2, 1)]
    ]
    torch.testing.assert_close(graph.symmetric_weights(), torch.tensor(expected))


@pytest.mark.parametrize("softmax", [SparseGraph.softmax_in_rows, SparseGraph.softmax_in_columns])
def test_gradients_of_all_operations(graph: SparseGraph, softmax: Callable[[SparseGraph, Tensor], Tensor]) -> None:
    def network(values: Tensor, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        affinity = softmax(graph, graph.products(users, items) + values)
        return graph.to_rows(affinity, items), graph.to_columns(affinity, users)

    assert torch.autograd.gradcheck(network, (weights(), vectors(N_ROWS), vectors(N_COLUMNS)))


def test_the_graph_is_in_no_state_dict_and_moves_with_its_model(graph: SparseGraph) -> None:
    assert graph.state_dict() == {}
    assert {name.strip("_") for name, _ in graph.named_buffers()} >= {"rows", "columns"}
