"""The sample: random, seeded, with a stated share of items that lack something."""

from __future__ import annotations

import numpy as np
import pytest

from dataset_prep.gallery.sample import draw
from dataset_prep.info.inventory import Inventory
from recbole_msm4sr.core.errors import UserError

N = 1000
# 1,000 items, of which 0 to 29 have no sentence; item i occurs i times
INVENTORY = Inventory([f"i{i}" for i in range(N)], 10, np.arange(N), {"sentences": np.where(np.arange(N) < 30, 0, 3)})


def test_some_items_with_something_missing_are_always_there_and_marked_as_added() -> None:
    drawn = draw(INVENTORY, 50, 0.2, "random", seed=1)
    assert len({one.place for one in drawn}) == 50
    added = [one.place for one in drawn if one.added]
    assert len(added) == 10
    assert all(place < 30 for place in added)
    assert 0 < sum(one.added for one in drawn[:25]) < 10  # a page that is cut off still has both kinds
    places = [one.place for one in draw(INVENTORY, 100, 0.9, "random", seed=1)]
    assert set(range(30)) <= set(places)
    assert len(set(places)) == 100


def test_without_a_share_the_sample_is_of_all_items_alike() -> None:
    counts = np.zeros(N)
    for seed in range(400):
        counts[[one.place for one in draw(INVENTORY, 50, 0.0, "random", seed)]] += 1
    # 400 draws with probability 1/20: 20 each, standard deviation 4.4
    assert abs(counts[:30].mean() - 20) < 4
    assert counts.max() < 45


def test_the_most_popular_come_first_and_the_seed_decides_the_rest() -> None:
    drawn = draw(INVENTORY, 50, 0.2, "popular", seed=1)
    assert [one.place for one in drawn[:40]] == list(range(N - 1, N - 41, -1))
    assert all(one.added for one in drawn[40:])
    assert drawn == draw(INVENTORY, 50, 0.2, "popular", seed=1) != draw(INVENTORY, 50, 0.2, "popular", seed=2)
    assert sorted(one.place for one in draw(INVENTORY, 5000, 0.2, "random", seed=1)) == list(range(N))


def test_without_interactions_no_item_is_popular() -> None:
    with pytest.raises(UserError, match="choose the order random"):
        draw(Inventory(["A"]), 5, 0.2, "popular", 0)
