"""Text and image encoders: attention pooling over an item's rows, then a mixture of experts (eq. 3-5)."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_msm4sr.core.precision import product_dtype
from recbole_msm4sr.model.kernels import fused_encoder

#: Items encoded at a time where their rows are not in memory.
_ITEMS_AT_ONCE = 1 << 14


class RowSource(Protocol):
    """Rows ``[R, d]`` that are not in memory, such as ``data.mapped_rows.MappedRows``."""

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def index_select(self, dim: int, index: Tensor) -> Tensor: ...


class SentenceAttention(nn.Module):
    """Parameters of the attention that pools an item's feature rows (eq. 3).

    The equation has no non-linearity between W1 and W2, so their product is one vector: the same function and the
    same gradients as the ``[d, d_a]`` product, at a fraction of its cost.

    Args:
        feature_size: d, the dimension of a row.
        attention_size: d_a.
    """

    def __init__(self, feature_size: int, attention_size: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(feature_size, attention_size)
        self.w2 = nn.Linear(attention_size, 1)

    def vector(self) -> Tensor:
        """W1 W2, float ``[d]``: a row's logit is its inner product with it, up to a constant.

        The constant b1 W2 + b2 is the same for all rows, so the softmax does not see it, and its gradient is zero.
        """
        constant = self.w2(self.w1.bias)  # [1]
        return (self.w2.weight @ self.w1.weight).squeeze(0) + 0 * constant


class MixtureOfExperts(nn.Module):
    """Parameters of a dense mixture of O linear experts, each followed by dropout and its own LayerNorm (eq. 4-5).

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
        self.dropout_prob = dropout_prob
        self.experts = nn.Linear(feature_size, n_experts * hidden_size)
        self.gate = nn.Linear(feature_size, n_experts)
        self.norm_weight = nn.Parameter(torch.full((n_experts, hidden_size), norm_init))
        self.norm_bias = nn.Parameter(torch.zeros(n_experts, hidden_size))

    def mixture(self) -> fused_encoder.Mixture:
        """The parameters as ``fused_encoder.encode`` takes them."""
        return fused_encoder.Mixture(
            self.experts.weight,
            self.experts.bias,
            self.gate.weight,
            self.gate.bias,
            self.norm_weight,
            self.norm_bias,
        )


class ModalityEncoder(nn.Module):
    """One modality's encoder: precomputed feature rows of items in, embeddings of size d_0 out (eq. 3-5).

    The features are buffers that are not saved with the weights. An item without rows gets a learned vector.

    Args:
        values: all rows, one item after the other; float ``[R, d]``, any float dtype. Or a ``RowSource``, of which
            only the rows of the items asked for are ever read.
        offsets: item i owns ``values[offsets[i]:offsets[i + 1]]``; int64 ``[n_items + 1]``.
        hidden_size: d_0.
        attention_size: d_a.
        n_experts: O.
        dropout_prob: the experts' dropout.
        norm_init: initial gain of the experts' LayerNorms.
    """

    values: Tensor | RowSource
    offsets: Tensor

    def __init__(
        self,
        values: Tensor | RowSource,
        offsets: Tensor,
        *,
        hidden_size: int,
        attention_size: int,
        n_experts: int,
        dropout_prob: float,
        norm_init: float = 1.0,
    ) -> None:
        super().__init__()
        if len(values.shape) != 2 or offsets.dim() != 1 or int(offsets[-1]) != len(values):
            raise ValueError(
                f"values must be [R, d] and offsets [n + 1] ending in R; got {tuple(values.shape)} and "
                f"{tuple(offsets.shape)} ending in {int(offsets[-1])}"
            )
        if isinstance(values, Tensor):
            self.register_buffer("values", values, persistent=False)
        else:
            self.values = values
        self.register_buffer("offsets", offsets, persistent=False)
        self.attention = SentenceAttention(values.shape[1], attention_size)
        self.experts = MixtureOfExperts(values.shape[1], hidden_size, n_experts, dropout_prob, norm_init)
        self.missing = nn.Parameter(torch.empty(hidden_size).normal_(std=0.02))

    def forward(self, item_ids: Tensor | None = None) -> Tensor:
        """
        Args:
            item_ids: int64 ``[n]``; ``None`` encodes every item in the order of the ids.

        Returns:
            z, float ``[n, d0]`` (eq. 5), or the learned "missing" vector for an item without rows.
        """
        if item_ids is not None:
            index, offsets = self._rows_of(item_ids)
            rows = self.values.index_select(0, index)  # [R', d]
        elif isinstance(self.values, Tensor):
            rows, offsets = self.values, self.offsets
        else:
            every = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
            return torch.cat([self(items) for items in every.split(_ITEMS_AT_ONCE)])
        dtype = product_dtype(self.missing)
        with torch.autocast(rows.device.type, enabled=False):
            embeddings = fused_encoder.encode(
                rows,
                offsets,
                self.attention.vector(),
                self.experts.mixture(),
                self.experts.dropout_prob if self.training else 0.0,
                dtype,
            )  # [n, d0]
        is_missing = offsets.diff() == 0  # [n]
        return torch.where(is_missing.unsqueeze(-1), self.missing, embeddings)

    def _rows_of(self, item_ids: Tensor) -> tuple[Tensor, Tensor]:
        starts = self.offsets[item_ids]
        counts = self.offsets[item_ids + 1] - starts
        offsets = F.pad(counts.cumsum(0), (1, 0))  # [n + 1]
        n_rows = int(offsets[-1])
        first = (starts - offsets[:-1]).repeat_interleave(counts, output_size=n_rows)
        index = first + torch.arange(n_rows, device=item_ids.device)
        return index, offsets
