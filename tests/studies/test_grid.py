"""Which points of a grid are tried, for which model, and which grids are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_msm4sr.config.load import PROPERTIES, Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.studies.grid import drawn_points, grid_of, read_grid

GRID = {"learning_rate": [0.1, 0.2, 0.3], "weight_decay": [0.0, 1.0]}


@pytest.mark.parametrize("grid", [GRID, {f"setting_{n}": list(range(10)) for n in range(50)}])
def test_points_are_drawn_without_repetition_and_more_trials_keep_the_first(grid: dict[str, list[float]]) -> None:
    """Of 10^50 points, too, of which no list could be made."""
    points = drawn_points(grid, 6, seed=1)
    assert len({tuple(point.items()) for point in points}) == 6
    assert all(value in grid[key] for point in points for key, value in point.items())
    assert all(list(point) == list(grid) for point in points)
    assert drawn_points(grid, 4, seed=1) == points[:4]
    assert drawn_points(grid, 6, seed=2) != points


def test_no_more_points_than_there_are() -> None:
    assert len(drawn_points(GRID, 100, seed=1)) == 6
    assert drawn_points({}, 3, seed=1) == []


def test_the_papers_grid_is_drawn_from_as_in_earlier_versions() -> None:
    """A study that goes on must find the points that it has tried."""
    grid = read_grid(PROPERTIES / "study" / "grid.yaml")[""]
    names = ("learning_rate", "train_batch_size", "weight_decay")
    found = [tuple(point[name] for name in names) for point in drawn_points(grid, 3, seed=2020)]
    assert found == [(0.0001, 256, 0.0001), (0.0005, 256, 0.0005), (0.0001, 256, 0.001)]


def _grid_of(model: str) -> dict[str, list[float]]:
    grids = read_grid(PROPERTIES / "study" / "grid.yaml")
    return {name: list(values) for name, values in grid_of(grids, Config(model, "tiny")).items()}


def test_general_models_are_searched_without_weight_decay_where_they_have_a_regularisation_of_their_own() -> None:
    """LightGCN on MovieLens-100K hardly learns with the paper's weight decay, which its own paper does not use."""
    papers = _grid_of("SASRec")
    assert papers["weight_decay"] == [0.0001, 0.0005, 0.001]
    assert _grid_of("LightGCN") == {
        **{key: papers[key] for key in ("learning_rate", "train_batch_size")},
        "reg_weight": [1e-06, 1e-05, 1e-04],
    }
    assert _grid_of("DualGNN")["reg_weight"] == [0.01, 0.1, 1.0]
    assert _grid_of("BPR") == {**papers, "weight_decay": [0.0, 0.0001, 0.001]}
    n_points = {len(drawn_points(_grid_of(model), 9, seed=1)) for model in ("SASRec", "LightGCN", "DualGNN", "BPR")}
    assert n_points == {9}


def test_a_section_of_one_model_wins(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(
        "learning_rate: [1]\nweight_decay: [2]\ngeneral: {weight_decay: [0]}\nBPR: {weight_decay: [3, 4]}\n"
    )
    grids = read_grid(path)
    assert grid_of(grids, Config("BPR", "tiny")) == {"learning_rate": [1], "weight_decay": [3, 4]}
    assert grid_of(grids, Config("LightGCN", "tiny")) == {"learning_rate": [1], "weight_decay": [0]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no settings"),
        ("general: {epochs: [1]}", "holds no settings"),
        ("epochs: 3", "'epochs' must have a list"),
        ("epochs: []", "'epochs' must have a list"),
        ("epochs: [[[1]]]", "'epochs' must have a list"),
        ("epochs: [{a: 1}]", "'epochs' must have a list"),
        ("learning_rate: [.nan]", "'learning_rate' must have a list"),
        ("learning_rate: [.inf]", "'learning_rate' must have a list"),
        ("1: [2]", "1 must have a list"),
        ("learning_rate: [1]\nGenerall: {epochs: [1]}", "there is no model 'Generall'"),
        ("learning_rate: [1]\ngeneral: {reg_weight_factors: [-1]}", "must be numbers above 0"),
        ("learning_rate: [1", "grid.yaml"),
    ],
)
def test_a_grid_that_cannot_be_searched_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        read_grid(path)
    assert "\n" not in str(raised.value)
