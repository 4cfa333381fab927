"""Embeddings of some items or of all."""

from __future__ import annotations

from torch import Tensor, nn


def rows_of(table: Tensor, item_ids: Tensor | None) -> Tensor:
    """Rows ``[n, ...]`` of ``item_ids`` int64 ``[n]``, or the whole table where that is ``None``."""
    return table if item_ids is None else table[item_ids]


class ItemEmbedding(nn.Embedding):
    """``nn.Embedding`` that gives the embeddings of all items when it is asked for none in particular."""

    def forward(self, input: Tensor | None = None) -> Tensor:
        """Embeddings float ``[n, d0]`` of item ids int64 ``[n]``, or of all items."""
        return self.weight if input is None else super().forward(input)
