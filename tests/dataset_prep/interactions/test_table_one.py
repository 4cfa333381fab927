"""Table I."""

from __future__ import annotations

import math

import pytest

from dataset_prep.interactions.table_one import Sizes, table_one


@pytest.mark.parametrize(
    ("name", "category", "average"),
    [
        ("Pantry", "Prime_Pantry", 9.65),
        ("Arts", "Arts_Crafts_and_Sewing", 8.21),
        ("Office", "Office_Products", 7.73),
    ],
)
def test_the_rows_agree_with_the_average_that_the_paper_prints(name: str, category: str, average: float) -> None:
    row = table_one(name)
    assert row is not None
    assert row == table_one(category)
    assert row.as_dict()["average_length"] == average


def test_other_data_sets_have_no_row() -> None:
    assert table_one("Gift_Cards") is None


def test_distance_is_the_mean_absolute_log_ratio() -> None:
    assert Sizes(10, 20, 30).distance(Sizes(10, 20, 30)) == 0
    assert Sizes(20, 10, 30).distance(Sizes(10, 20, 30)) == pytest.approx(2 * math.log(2) / 3)
    assert Sizes(0, 0, 0).distance(Sizes(1, 1, 1)) == math.inf


def test_no_users_have_no_average() -> None:
    assert Sizes(0, 0, 0).as_dict() == {
        "users": 0,
        "items": 0,
        "interactions": 0,
        "average_length": 0.0,
        "density": 0.0,
    }
