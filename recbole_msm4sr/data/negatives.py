"""Sampled evaluation whose negatives follow from settings and data alone: equal for every model, epoch and run."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_msm4sr.core.errors import UserError

_ROUNDS = 100  # of drawing again, before all that is left is listed


class FixedNegatives:
    """Stands where RecBole's sampler does in an evaluation loader; draws with replacement, as that does.

    RecBole draws from numpy's global generator, whose state depends on all that was drawn before, and leaves first
    items of histories out of what sequential models' users know.

    Args:
        phase: ``valid`` or ``test``.
        seed: the run's.
        users: owner of every known interaction, int64 ``[P]``.
        items: what is known to the users, and never a negative for them; int64 ``[P]``.
        weight: how often an item is drawn, in proportion; item 0, padding, never; float64 ``[n_items]``.
        n_users: padding included.
    """

    def __init__(
        self,
        phase: str,
        seed: int,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        weight: NDArray[np.float64],
        n_users: int,
    ) -> None:
        self.phase, self.seed, self.weight = phase, seed, weight
        self.items = items[np.argsort(users, kind="stable")]
        self.start = np.concatenate([[0], np.bincount(users, minlength=n_users).cumsum()])
        self.cumulative = np.cumsum(weight)

    def sample_by_user_ids(self, user_ids: NDArray[np.int64], item_ids: NDArray[np.int64], num: int) -> Tensor:
        """Negatives of one user, int64 ``[num * len(user_ids)]``; the same whenever they are asked for."""
        user = int(user_ids[0])
        rng = np.random.default_rng([self.seed, self.phase == "test", user])
        known = np.union1d(self.items[self.start[user] : self.start[user + 1]], item_ids)
        drawn = self._draw(rng, num * len(user_ids), self.cumulative)
        for _ in range(_ROUNDS):
            (again,) = np.nonzero(np.isin(drawn, known))
            if not len(again):
                return torch.from_numpy(drawn)
            drawn[again] = self._draw(rng, len(again), self.cumulative)
        left = self.weight.copy()
        left[known] = 0
        if not left.any():
            raise UserError(f"eval_args: mode draws no negatives for user number {user}, who knows all items it draws")
        return torch.from_numpy(self._draw(rng, len(drawn), np.cumsum(left)))

    @staticmethod
    def _draw(rng: np.random.Generator, n: int, cumulative: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
