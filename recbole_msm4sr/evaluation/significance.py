"""Is one model better than others on the same users, or is it chance?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.evaluation.user_ranks import UserRanks

Name = TypeVar("Name", bound=Hashable)


def by_user(runs: Sequence[UserRanks]) -> list[UserRanks]:
    """The runs with their users in one order, that of the tokens.

    Raises:
        UserError: they tested different users or targets.
    """
    ordered = [run.of_users(np.argsort(run.user)) for run in runs]
    for run in ordered:
        if not np.array_equal(run.user, ordered[0].user) or not np.array_equal(run.item, ordered[0].item):
            raise UserError("runs on different users or targets cannot be compared: use one data set and one split")
    return ordered


def mean_over_seeds(runs: Sequence[UserRanks], metric: str) -> NDArray[np.float64]:
    """Each user's metric, averaged over runs that ``by_user`` has ordered; float64 ``[N]``."""
    return np.mean([run.metric(metric) for run in runs], axis=0)


def paired_p_value(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Two-sided paired t-test over users: the probability of a mean difference this large if there were none.

    It is about the users at hand: how much another seed would change is in the standard deviations. Where all users
    differ by the same amount, t has no variance to go by, and the sign test's probability is given.
    """
    difference = one - other
    if not difference.any():
        return 1.0
    if np.ptp(difference) == 0:
        return 0.5 ** (len(difference) - 1)
    return float(stats.ttest_1samp(difference, 0.0).pvalue)


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """p values corrected for their number: Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979)."""
    corrected: dict[Name, float] = {}
    largest = 0.0
    for position, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - position) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}
