"""The sample: random, seeded, with a stated share of items that lack something."""

from __future__ import annotations

import numpy as np
import pytest

from dataset_prep.gallery.sample import draw
from dataset_prep.info.inventory import Inventory
from recbole_msm4sr.core.errors import UserError

N = 1000


@pytest.fixture
def inventory() -> Inventory:
    """1,000 items, of which 0 to 29 have no sentence; item i occurs i times."""
    sentences = np.where(np.arange(N) < 30, 0, 3)
    return Inventory([f"i{i}" for i in range(N)], 10, np.arange(N), {"sentences": sentences})


def test_some_items_with_something_missing_are_always_there_and_marked_as_added(inventory: Inventory) -> None:
    drawn = draw(inventory, 50, 0.2, "random", seed=1)
    assert len({one.place for one in drawn}) == 50
    added = [one.place for one in drawn if one.added]
    assert len(added) == 10
    assert all(place < 30 for place in added)


def test_without_a_share_the_sample_is_of_all_items_alike(inventory: Inventory) -> None:
    counts = np.zeros(N)
    for seed in range(400):
        drawn = draw(inventory, 50, 0.0, "random", seed)
        assert not any(one.added for one in drawn)
        counts[[one.place for one in drawn]] += 1
    # 400 draws with probability 1/20: 20 each, standard deviation 4.4
    assert abs(counts[:30].mean() - 20) < 4
    assert counts.max() < 45


def test_the_beginning_of_a_random_sample_holds_added_items_too(inventory: Inventory) -> None:
    """A page that becomes too large is cut off: what is left must still be a sample of both kinds."""
    halves = [draw(inventory, 50, 0.2, "random", seed)[:25] for seed in range(20)]
    assert 3 < np.mean([sum(one.added for one in half) for half in halves]) < 7


def test_the_most_popular_come_first(inventory: Inventory) -> None:
    drawn = draw(inventory, 50, 0.2, "popular", seed=1)
    assert [one.place for one in drawn[:40]] == list(range(N - 1, N - 41, -1))
    assert all(one.added for one in drawn[40:])


def test_fewer_items_than_asked_for_are_all_there_once(inventory: Inventory) -> None:
    drawn = draw(inventory, 5000, 0.2, "random", seed=1)
    assert sorted(one.place for one in drawn) == list(range(N))


def test_a_share_larger_than_there_are_such_items_is_filled_up_from_all(inventory: Inventory) -> None:
    drawn = draw(inventory, 100, 0.9, "random", seed=1)
    assert len({one.place for one in drawn}) == 100
    assert all(place in {one.place for one in drawn} for place in range(30))


def test_the_seed_decides(inventory: Inventory) -> None:
    assert draw(inventory, 50, 0.2, "random", 1) == draw(inventory, 50, 0.2, "random", 1)
    assert draw(inventory, 50, 0.2, "random", 1) != draw(inventory, 50, 0.2, "random", 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((0, 0.2, "random", 0), "max_items"),
        ((5, 1.5, "random", 0), "missing_share"),
        ((5, 0.2, "best", 0), "order"),
        ((5, 0.2, "random", -1), "seed is -1"),
    ],
)
def test_settings_out_of_range_are_refused(
    inventory: Inventory, settings: tuple[int, float, str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        draw(inventory, *settings)


def test_nothing_is_popular_without_interactions(inventory: Inventory) -> None:
    inventory.interactions = None
    with pytest.raises(UserError, match="choose the order random"):
        draw(inventory, 5, 0.2, "popular", seed=0)
