"""Text and image encoders: attention pooling over an item's rows, then a mixture of experts (eq. 3-5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SentenceAttention(nn.Module):
    """Pool an item's feature rows with learned softmax weights (eq. 3).

    The equation has no non-linearity between W1 and W2, so their product is one vector: the same function and the
    same gradients as the ``[d, d_a]`` product, at a fraction of its cost. The softmax runs over an item's own rows.

    Args:
        feature_size: d, the dimension of a row.
        attention_size: d_a.
    """

    def __init__(self, feature_size: int, attention_size: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(feature_size, attention_size)
        self.w2 = nn.Linear(attention_size, 1)

    def forward(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """
        Args:
            rows: the items' rows, one item after the other; float ``[R, d]``.
            offsets: item i owns ``rows[offsets[i]:offsets[i + 1]]``; int64 ``[n + 1]``. An item may own none.

        Returns:
            Pooled features ``[n, d]``; zeros for an item without rows.
        """
        weight = self.w2.weight @ self.w1.weight  # [1, d]
        bias = self.w2(self.w1.bias)  # [1]
        logits = F.linear(rows, weight, bias).squeeze(-1)  # [R]
        alpha = segment_softmax(logits, offsets).to(rows.dtype)  # [R]; autocast gives logits of half precision
        index = torch.arange(rows.size(0), device=rows.device)
        return F.embedding_bag(
            index, rows, offsets, per_sample_weights=alpha, mode="sum", include_last_offset=True
        )  # [n, d]


class MixtureOfExperts(nn.Module):
    """Dense mixture of O linear experts, each followed by dropout and its own LayerNorm (eq. 4-5).

    Args:
        feature_size: d.
        hidden_size: d_0.
        n_experts: O.
        dropout_prob: dropout between an expert's linear map and its LayerNorm.
        norm_init: initial gain of every LayerNorm. At 1 the dot products of eq. 12 start so large that training
            spends its first epochs shrinking them, and IDs (initialised small) hardly count.
    """

    def __init__(
        self, feature_size: int, hidden_size: int, n_experts: int, dropout_prob: float, norm_init: float = 1.0
    ) -> None:
        super().__init__()
        if n_experts < 1:
            raise ValueError(f"n_experts must be at least 1, got {n_experts}")
        self.n_experts, self.hidden_size = n_experts, hidden_size
        self.experts = nn.Linear(feature_size, n_experts * hidden_size)
        self.gate = nn.Linear(feature_size, n_experts)
        self.dropout = nn.Dropout(dropout_prob)
        self.norm_weight = nn.Parameter(torch.full((n_experts, hidden_size), norm_init))
        self.norm_bias = nn.Parameter(torch.zeros(n_experts, hidden_size))

    def forward(self, pooled: Tensor) -> Tensor:
        """Map pooled features float ``[n, d]`` to item embeddings ``[n, d0]``."""
        outputs = self.dropout(self.experts(pooled)).view(-1, self.n_experts, self.hidden_size)  # [n, O, d0]
        outputs = F.layer_norm(outputs, (self.hidden_size,))  # [n, O, d0], before each expert's own scale and shift
        gates = self.gate(pooled).softmax(dim=-1)  # [n, O]
        scaled = (gates.unsqueeze(-1) * self.norm_weight * outputs).sum(dim=1)  # [n, d0]
        return scaled + gates @ self.norm_bias


class ModalityEncoder(nn.Module):
    """One modality's encoder: precomputed feature rows of items in, embeddings of size d_0 out (eq. 3-5).

    The features are buffers that are not saved with the weights. An item without rows gets a learned vector.

    Args:
        values: all rows, one item after the other; float ``[R, d]``, any float dtype.
        offsets: item i owns ``values[offsets[i]:offsets[i + 1]]``; int64 ``[n_items + 1]``.
        hidden_size: d_0.
        attention_size: d_a.
        n_experts: O.
        dropout_prob: the experts' dropout.
        norm_init: initial gain of the experts' LayerNorms.
    """

    values: Tensor
    offsets: Tensor

    def __init__(
        self,
        values: Tensor,
        offsets: Tensor,
        *,
        hidden_size: int,
        attention_size: int,
        n_experts: int,
        dropout_prob: float,
        norm_init: float = 1.0,
    ) -> None:
        super().__init__()
        if values.dim() != 2 or offsets.dim() != 1 or int(offsets[-1]) != values.size(0):
            raise ValueError(
                f"values must be [R, d] and offsets [n + 1] ending in R; got {tuple(values.shape)} and "
                f"{tuple(offsets.shape)} ending in {int(offsets[-1])}"
            )
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        self.attention = SentenceAttention(values.size(1), attention_size)
        self.experts = MixtureOfExperts(values.size(1), hidden_size, n_experts, dropout_prob, norm_init)
        self.missing = nn.Parameter(torch.empty(hidden_size).normal_(std=0.02))

    def forward(self, item_ids: Tensor | None = None) -> Tensor:
        """
        Args:
            item_ids: int64 ``[n]``; ``None`` encodes every item in the order of the ids.

        Returns:
            z, float ``[n, d0]`` (eq. 5), or the learned "missing" vector for an item without rows.
        """
        dtype = self.missing.dtype
        if item_ids is None:
            rows, offsets = self.values.to(dtype), self.offsets
        else:
            index, offsets = self._rows_of(item_ids)
            rows = self.values.index_select(0, index).to(dtype)  # [R', d]
        embeddings = self.experts(self.attention(rows, offsets))  # [n, d0]
        is_missing = offsets.diff() == 0  # [n]
        return torch.where(is_missing.unsqueeze(-1), self.missing, embeddings)

    def _rows_of(self, item_ids: Tensor) -> tuple[Tensor, Tensor]:
        starts = self.offsets[item_ids]
        counts = self.offsets[item_ids + 1] - starts
        offsets = F.pad(counts.cumsum(0), (1, 0))  # [n + 1]
        index = (starts - offsets[:-1]).repeat_interleave(counts) + torch.arange(
            int(offsets[-1]), device=item_ids.device
        )
        return index, offsets


def segment_softmax(logits: Tensor, offsets: Tensor) -> Tensor:
    """Softmax of ``logits`` float ``[R]`` within each segment ``offsets[i]:offsets[i + 1]`` (int64 ``[n + 1]``)."""
    n_segments = offsets.numel() - 1
    segment = torch.arange(n_segments, device=logits.device).repeat_interleave(offsets.diff())  # [R]
    highest = logits.new_zeros(n_segments).scatter_reduce(
        0, segment, logits.detach(), reduce="amax", include_self=False
    )
    exponent = (logits - highest[segment]).exp()
    total = logits.new_zeros(n_segments).index_add(0, segment, exponent)
    return exponent / total[segment]
