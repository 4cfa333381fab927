"""Text and image encoders: attention pooling over an item's rows, then a mixture of experts (eq. 3-5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recbole_msm4sr.model.blocks.content import content_ids
from recbole_msm4sr.model.blocks.dropout import Dropout
from recbole_msm4sr.model.blocks.segments import segment_of_rows, segment_softmax


class RowSource(Protocol):
    """Rows ``[R, d]`` that are not in memory, such as ``data.mapped_rows.MappedRows``."""

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def index_select(self, dim: int, index: Tensor) -> Tensor: ...


class SentenceAttention(nn.Module):
    """Attention that pools an item's feature rows (eq. 3): e = Σ_j α_j x_j with α = softmax((x W1 + b1) W2 + b2).

    The equation has no non-linearity between W1 and W2, so their product is one vector: the same function and the
    same gradients as the ``[R, d_a]`` product, at a fraction of its cost.

    Args:
        feature_size: d, the dimension of a row.
        attention_size: d_a.
    """

    def __init__(self, feature_size: int, attention_size: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(feature_size, attention_size)
        self.w2 = nn.Linear(attention_size, 1)
        # b1 W2 + b2 shifts all logits of an item alike, which does not change a softmax: nothing to learn, and
        # DistributedDataParallel would wait for gradients that never come.
        self.w1.bias.requires_grad_(False)
        self.w2.bias.requires_grad_(False)

    def forward(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Pool the rows of every item, in float32 or better whatever the precision of the rest.

        Args:
            rows: float ``[R, d]``, of any float dtype, without gradient; one item after the other.
            offsets: item i owns ``rows[offsets[i]:offsets[i + 1]]``; int64 ``[n + 1]``.

        Returns:
            e, in the dtype of the weights, ``[n, d]``; zeros for an item without rows.
        """
        with torch.autocast(rows.device.type, enabled=False):
            x = rows.to(self.w1.weight.dtype)  # [R, d]
            vector = (self.w2.weight @ self.w1.weight).squeeze(0)  # W1 W2, [d]
            logits = x @ vector  # [R]
            alpha = segment_softmax(logits, segment_of_rows(offsets, len(x)), len(offsets) - 1)  # [R]
            every = torch.arange(len(x), device=x.device)
            return F.embedding_bag(every, x, offsets, mode="sum", per_sample_weights=alpha, include_last_offset=True)


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
        self.experts = nn.Linear(feature_size, n_experts * hidden_size)
        self.gate = nn.Linear(feature_size, n_experts)
        self.norm_weight = nn.Parameter(torch.full((n_experts, hidden_size), norm_init))
        self.norm_bias = nn.Parameter(torch.zeros(n_experts, hidden_size))
        self.dropout = Dropout(dropout_prob)

    def forward(self, pooled: Tensor) -> Tensor:
        """z = Σ_k g_k LayerNorm_k(Dropout(W_k e + b_k)) with gates g = softmax(W_g e + b_g).

        Args:
            pooled: e, float ``[n, d]``.

        Returns:
            z, float ``[n, d0]``. Under autocast the experts are in its dtype, the gates and z in that of ``pooled``.
        """
        linear = self.experts(pooled).unflatten(1, self.norm_weight.shape)  # [n, O, d0]
        dtype = linear.dtype
        normal = F.layer_norm(self.dropout(linear), linear.shape[-1:]).to(dtype)  # [n, O, d0]
        experts = normal * self.norm_weight.to(dtype) + self.norm_bias.to(dtype)  # [n, O, d0], eq. 4
        gates = self.gate(pooled).to(pooled.dtype).softmax(dim=-1)  # g, [n, O]
        return torch.bmm(gates.to(dtype).unsqueeze(1), experts).squeeze(1).to(pooled.dtype)  # [n, d0], eq. 5


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
        items_at_once: items encoded at a time on a CPU, and where rows are not in memory.
        items_kept: float32 rows of so many items are kept for the backward pass; of more, they are made again in it.
    """

    values: Tensor | RowSource
    offsets: Tensor
    _content_ids: Tensor | None

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
        items_at_once: int = 4096,
        items_kept: int = 16384,
    ) -> None:
        super().__init__()
        self.items_at_once, self.items_kept = items_at_once, items_kept
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
        self.register_buffer("_content_ids", None, persistent=False)
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
        n_items = len(self.offsets) - 1 if item_ids is None else len(item_ids)
        pool = self._pool_again_in_backward if n_items > self.items_kept else self.attention
        parts = []
        for rows, offsets in self._blocks(item_ids):
            pooled = pool(rows, offsets)  # e, [m, d]
            z = self.experts(pooled)  # [m, d0]
            is_missing = offsets.diff() == 0  # [m]
            parts.append(torch.where(is_missing.unsqueeze(-1), self.missing, z))
        return torch.cat(parts)

    def content_ids(self, item_ids: Tensor) -> Tensor:
        """Which of the items int64 ``[n]`` have the same content, -1 where one has no rows: int64 ``[n]``.

        Rows that are not in memory are not compared: there every item has content of its own.
        """
        if self._content_ids is None:
            if isinstance(self.values, Tensor):
                self._content_ids = content_ids(self.values.cpu(), self.offsets.cpu()).to(self.offsets.device)
            else:
                every = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
                self._content_ids = every.where(self.offsets.diff() > 0, -1)
        return self._content_ids[item_ids]

    def _pool_again_in_backward(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Eq. 3 without keeping the rows in float32, which are most of what backward needs."""
        return checkpoint(self.attention, rows, offsets, use_reentrant=False, preserve_rng_state=False)

    def _blocks(self, item_ids: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and offsets of the items asked for, block by block."""
        if item_ids is None and isinstance(self.values, Tensor):
            n_items = len(self.offsets) - 1
            step = self.items_at_once if self.values.device.type == "cpu" else n_items
            for first in range(0, n_items, step):
                offsets = self.offsets[first : first + step + 1]
                whole = len(offsets) == len(self.offsets)
                yield (self.values, offsets) if whole else _slice(self.values, offsets)
            return
        if item_ids is None:
            item_ids = torch.arange(len(self.offsets) - 1, device=self.offsets.device)
        for ids in item_ids.split(self.items_at_once):
            index, offsets = self._rows_of(ids)
            yield self.values.index_select(0, index), offsets

    def _rows_of(self, item_ids: Tensor) -> tuple[Tensor, Tensor]:
        starts = self.offsets[item_ids]
        counts = self.offsets[item_ids + 1] - starts
        offsets = F.pad(counts.cumsum(0), (1, 0))  # [n + 1]
        n_rows = int(offsets[-1])
        first = (starts - offsets[:-1]).repeat_interleave(counts, output_size=n_rows)
        index = first + torch.arange(n_rows, device=item_ids.device)
        return index, offsets


def _slice(rows: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that ``offsets`` points to, and the offsets in them."""
    return rows[offsets[0] : offsets[-1]], offsets - offsets[0]
