"""Negatives: never the user's own items, never items without interactions, all others equally often."""

from __future__ import annotations

import pytest
import torch
from tiny_catalogue import N_ITEMS
from tiny_interactions import ITEMS_OF, N_USERS, make_training_part

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.model.baselines.general import interaction_graph
from recbole_msm4sr.model.baselines.negative_sampler import NegativeSampler
from recbole_msm4sr.model.baselines.sparse_graph import SparseGraph


def test_negatives_are_uniform_over_the_items_that_others_know() -> None:
    sampler = NegativeSampler(interaction_graph(make_training_part()))
    drawn = sampler.draw(torch.tensor([1, 4, 1]), 20000)
    assert drawn.shape == (3, 20000)
    known = set().union(*ITEMS_OF.values())
    for row, user in enumerate([1, 4, 1]):
        expected = sorted(known - set(ITEMS_OF[user]))
        values, counts = drawn[row].unique(return_counts=True)
        assert values.tolist() == expected
        torch.testing.assert_close(counts / 20000, torch.full((len(expected),), 1 / len(expected)), atol=0.015, rtol=0)


def test_the_seed_decides_what_is_drawn() -> None:
    sampler = NegativeSampler(interaction_graph(make_training_part()))
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(sampler.draw(torch.arange(1, N_USERS), 9))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_user_of_all_items_is_refused() -> None:
    users, items = torch.tensor([1, 1, 2]), torch.tensor([3, 4, 3])
    with pytest.raises(UserError, match="a user has interacted with all items"):
        NegativeSampler(SparseGraph(users, items, N_USERS, N_ITEMS))
