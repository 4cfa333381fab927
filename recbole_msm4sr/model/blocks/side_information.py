"""Side information of items, one vector an item: attributes, and means of feature rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_msm4sr.model.blocks.embedding import rows_of
from recbole_msm4sr.model.blocks.segments import segment_of_rows


def mean_of_rows(values: Tensor, offsets: Tensor) -> Tensor:
    """Mean of every item's feature rows, zeros for an item without rows.

    Args:
        values: all rows, one item after the other; float ``[R, d]``, any float dtype.
        offsets: item i owns ``values[offsets[i]:offsets[i + 1]]``; int64 ``[n_items + 1]``.

    Returns:
        Float32 ``[n_items, d]``.
    """
    counts = offsets.diff()
    sums = torch.zeros(len(counts), values.shape[1], device=values.device)
    sums.index_add_(0, segment_of_rows(offsets, len(values)), values.float())
    return sums / counts.clamp(min=1).unsqueeze(1)


class FeatureProjection(nn.Module):
    """An item's feature vector, mapped to an embedding.

    Args:
        features: one vector an item, float ``[n_items, d]``; a buffer that is not saved.
        size: of the embedding.
        bias: without it an item whose features are zeros has an embedding of zeros.
    """

    features: Tensor

    def __init__(self, features: Tensor, size: int, *, bias: bool = True) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.projection = nn.Linear(features.size(1), size, bias=bias)

    def forward(self, item_ids: Tensor | None = None) -> Tensor:
        """Embeddings float ``[n, size]`` of ``item_ids`` int64 ``[n]``, or of all items."""
        return self.projection(rows_of(self.features, item_ids))


class AttributeEmbedding(nn.Module):
    """Sum of the embeddings of the attribute values that an item has; zeros where it has none.

    Args:
        values: every item's value, int64 ``[n_items]``, or values, int64 ``[n_items, W]``; 0 stands for no value.
        n_values: number of values, 0 included.
        size: of the embedding.
    """

    values: Tensor

    def __init__(self, values: Tensor, n_values: int, size: int) -> None:
        super().__init__()
        self.register_buffer("values", values.reshape(len(values), -1), persistent=False)
        self.embedding = nn.Embedding(n_values, size, padding_idx=0)

    def forward(self, item_ids: Tensor | None = None) -> Tensor:
        """Embeddings float ``[n, size]`` of ``item_ids`` int64 ``[n]``, or of all items."""
        values = rows_of(self.values, item_ids)
        return F.embedding_bag(values, self.embedding.weight, mode="sum", padding_idx=0)

    def labels(self, item_ids: Tensor) -> Tensor:
        """Which values the items have, none left out: ones and zeros, float ``[n, n_values - 1]``."""
        weight = self.embedding.weight
        labels = torch.zeros(len(item_ids), len(weight), dtype=weight.dtype, device=weight.device)
        return labels.scatter_(1, self.values[item_ids], 1.0)[:, 1:]
