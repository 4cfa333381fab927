"""Paired tests over users and their correction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.evaluation.groups import by_history, by_warmth
from recbole_msm4sr.evaluation.significance import by_user, holm, mean_over_seeds, paired_p_value
from recbole_msm4sr.evaluation.user_ranks import UserRanks


def _ranks(users: list[str], rank: list[int]) -> UserRanks:
    numbers, targets = np.arange(len(users), dtype=np.int32), np.array([f"target of {user}" for user in users])
    ranks = np.array(rank, dtype=np.int32)
    return UserRanks(np.array(users), targets, ranks, ranks, numbers, numbers)


def test_users_are_matched_by_token_not_by_row() -> None:
    runs = [_ranks(["a", "b", "c"], [1, 11, 11]), _ranks(["c", "a", "b"], [11, 1, 2])]
    np.testing.assert_allclose(mean_over_seeds(by_user(runs), "recall@10"), [1, 0.5, 0])


def test_runs_on_other_users_are_refused() -> None:
    with pytest.raises(UserError, match="different users"):
        by_user([_ranks(["a", "b"], [1, 1]), _ranks(["a", "c"], [1, 1])])
    run = _ranks(["a", "b"], [1, 1])
    with pytest.raises(UserError, match="different users or targets"):
        by_user([run, replace(run, item=run.item[::-1])])


def test_paired_test_of_known_numbers() -> None:
    """t = mean / (sd / sqrt(n)) of the differences 1, 1, 1, 0: 3 with 3 degrees of freedom, p = 0.0577."""
    assert paired_p_value(np.array([1.0, 1, 1, 0]), np.zeros(4)) == pytest.approx(0.0577, abs=1e-4)
    assert paired_p_value(np.ones(4), np.ones(4)) == 1.0


@pytest.mark.parametrize("n_users", [1, 2, 5])
def test_equal_differences_of_few_users_prove_little(n_users: int) -> None:
    """The differences have no variance: two users who both gain 1 prove no more than two tosses of a coin."""
    assert paired_p_value(np.ones(n_users), np.zeros(n_users)) == 0.5 ** (n_users - 1)


def test_paired_test_keeps_its_level_under_the_null() -> None:
    rng = np.random.default_rng(1)
    p_values = [paired_p_value(*rng.integers(0, 2, (2, 200)).astype(float)) for _ in range(2000)]
    assert 0.035 < np.mean(np.array(p_values) < 0.05) < 0.065


def test_holm_of_known_numbers() -> None:
    """The smallest times 4, the next times 3, ..., never below the one before, never above 1."""
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert corrected == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9})
    assert list(corrected) == ["a", "b", "c", "d"]


def test_history_groups_have_every_user_once_and_users_of_one_length_together() -> None:
    length = np.random.default_rng(1).geometric(0.2, 1000)
    groups = by_history(length)
    of_length = pd.Series(groups).groupby(length).nunique()
    assert (of_length == 1).all()
    assert 3 <= len(groups.categories) <= 5
    assert pd.Series(length).groupby(groups, observed=False).max().is_monotonic_increasing
    assert list(by_history(np.array([4, 4]))) == ["history 4"] * 2
    assert list(by_history(np.array([9, 5, 5, 7]))) == ["history 8-9", "history 5", "history 5", "history 6-7"]


def test_warmth_is_the_papers_ten_training_interactions() -> None:
    assert list(by_warmth(np.array([0, 9, 10]))) == ["target < 10 times"] * 2 + ["target >= 10 times"]
