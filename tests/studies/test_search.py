"""Which points of a grid are tried."""

from __future__ import annotations

import pytest

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.studies.search import drawn_points

GRID = {"learning_rate": [0.1, 0.2, 0.3], "weight_decay": [0.0, 1.0]}


def test_points_are_drawn_without_repetition_and_more_trials_keep_the_first() -> None:
    points = drawn_points(GRID, 6, seed=1)
    assert len({tuple(point.items()) for point in points}) == 6
    assert all(value in GRID[key] for point in points for key, value in point.items())
    assert drawn_points(GRID, 4, seed=1) == points[:4]
    assert drawn_points(GRID, 100, seed=1) == points
    assert drawn_points(GRID, 6, seed=2) != points


@pytest.mark.parametrize(
    ("grid", "n_trials", "message"),
    [({}, 1, "empty"), ({"epochs": []}, 1, "empty"), ({"epochs": 3}, 1, "a list"), (GRID, 0, "trials is 0")],
)
def test_nothing_to_draw(grid: dict[str, list[float]], n_trials: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        drawn_points(grid, n_trials, seed=1)
