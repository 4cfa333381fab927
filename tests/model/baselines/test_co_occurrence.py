"""The users with most items in common: against all pairs counted one by one, in blocks of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_msm4sr.model.baselines.co_occurrence import co_occurrence
from recbole_msm4sr.model.baselines.sparse_graph import SparseGraph

N_USERS, N_ITEMS = 40, 15


def random_interactions() -> SparseGraph:
    """Users 0 and 7 have no item; ties abound."""
    rng = np.random.default_rng(5)
    users = [user for user in range(N_USERS) if user not in (0, 7) for _ in range(int(rng.integers(1, 9)))]
    items = rng.integers(1, N_ITEMS, len(users)).tolist()
    return SparseGraph(torch.tensor(users), torch.tensor(items), N_USERS, N_ITEMS)


def counted(interactions: SparseGraph, n_neighbors: int) -> list[tuple[int, int, int]]:
    items_of: list[set[int]] = [set() for _ in range(N_USERS)]
    for user, item in zip(interactions.rows.tolist(), interactions.columns.tolist(), strict=True):
        items_of[user].add(item)
    edges = []
    for user, own in enumerate(items_of):
        common = [(-len(own & items_of[other]), other) for other in range(N_USERS) if other != user]
        best = sorted(pair for pair in common if pair[0])[:n_neighbors]
        edges += sorted((user, other, -count) for count, other in best)
    return edges


@pytest.mark.parametrize("entries_at_once", [1, 100, 1 << 23])
@pytest.mark.parametrize("n_neighbors", [1, 5, 100])
def test_edges_are_the_most_common_neighbors(n_neighbors: int, entries_at_once: int) -> None:
    interactions = random_interactions()
    graph, n_common = co_occurrence(interactions, n_neighbors, entries_at_once)
    edges = list(zip(graph.rows.tolist(), graph.columns.tolist(), n_common.tolist(), strict=True))
    assert edges == counted(interactions, n_neighbors)
    assert (graph.n_rows, graph.n_columns) == (N_USERS, N_USERS)


def test_users_who_share_nothing_have_no_edge() -> None:
    graph, n_common = co_occurrence(SparseGraph(torch.tensor([1, 2]), torch.tensor([1, 2]), 4, 3), 5)
    assert len(graph.rows) == len(n_common) == 0
