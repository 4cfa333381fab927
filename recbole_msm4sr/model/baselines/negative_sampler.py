"""Many random negatives for every user of a batch, drawn on the model's device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.model.baselines.sparse_graph import SparseGraph


class NegativeSampler(nn.Module):
    """Draws items that somebody has interacted with and the user has not, uniformly, with replacement.

    RecBole's sampler draws the same from all items, one Python comparison a negative.

    Args:
        graph: users (rows) and the items they have interacted with (columns).

    Raises:
        UserError: a user has interacted with every item that anybody has.
    """

    items: Tensor
    seen: Tensor

    def __init__(self, graph: SparseGraph) -> None:
        super().__init__()
        self.n_items = graph.n_columns
        items = graph.columns.unique()
        if int(graph.rows.bincount().max()) >= len(items):
            raise UserError("a user has interacted with all items: nothing is left to draw as negatives for it")
        self.register_buffer("items", items, persistent=False)
        self.register_buffer("seen", graph.rows * self.n_items + graph.columns, persistent=False)  # rising

    def draw(self, users: Tensor, n_negatives: int) -> Tensor:
        """Item ids int64 ``[B, n_negatives]`` for users int64 ``[B]``."""
        owner = users.repeat_interleave(n_negatives)
        drawn = self._random_items(len(owner))
        again = self._is_seen(owner, drawn).nonzero().squeeze(1)
        while len(again):
            drawn[again] = self._random_items(len(again))
            again = again[self._is_seen(owner[again], drawn[again])]
        return drawn.view(len(users), n_negatives)

    def _random_items(self, n: int) -> Tensor:
        return self.items[torch.randint(len(self.items), (n,), device=self.items.device)]

    def _is_seen(self, users: Tensor, items: Tensor) -> Tensor:
        pair = users * self.n_items + items
        place = torch.searchsorted(self.seen, pair).clamp_(max=len(self.seen) - 1)
        return self.seen[place] == pair
