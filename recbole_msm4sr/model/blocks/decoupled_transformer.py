"""DIF-SR's transformer: attention of items, positions and side information, scored apart and then fused.

Xie, Zhou, Kim: Decoupled Side Information Fusion for Sequential Recommendation (SIGIR 2022), 3.3. Side information
takes part in where to look; what is passed on, the values, is of the items alone.

The fusions ``concat`` and ``gate`` look at a whole row of scores. Here, what a position may not see is 0 in that row,
so that a state depends on its past alone, as packed training needs. In the release the row also holds scores of later
positions of the prefix, and of padding. ``sum`` looks at single scores, and is the same there and here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_msm4sr.model.blocks.dropout import Dropout
from recbole_msm4sr.model.blocks.transformer import PostNormBlock


class DecoupledTransformer(nn.Module):
    """LayerNorm and dropout, then ``n_layers`` post-norm blocks of decoupled attention and feed-forward.

    Rows are left-aligned, so the causal mask alone hides padding from every real position.

    Args:
        hidden_size: d_0, of items and positions.
        side_sizes: embedding size of every piece of side information.
        inner_size: width of the feed-forward layer.
        n_layers, n_heads: blocks and attention heads.
        max_seq_length: longest row.
        hidden_dropout_prob, attn_dropout_prob: dropout of hidden states and of attention weights.
        layer_norm_eps: added to the variance.
        fusion_type: ``sum``, ``concat`` or ``gate``.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        side_sizes: Sequence[int],
        inner_size: int,
        n_layers: int,
        n_heads: int,
        max_seq_length: int,
        hidden_dropout_prob: float,
        attn_dropout_prob: float,
        layer_norm_eps: float,
        fusion_type: str,
    ) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(max_seq_length, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = Dropout(hidden_dropout_prob)
        self.layers = nn.ModuleList(
            DecoupledLayer(
                DecoupledAttention(
                    (hidden_size, hidden_size, *side_sizes),
                    n_heads,
                    attn_dropout_prob,
                    make_fusion(fusion_type, 2 + len(side_sizes), max_seq_length),
                ),
                hidden_size,
                inner_size,
                hidden_dropout_prob,
                layer_norm_eps,
            )
            for _ in range(n_layers)
        )

    def forward(self, embeddings: Tensor, sides: Sequence[Tensor], last: Tensor | None = None) -> Tensor:
        """Hidden states of sequences.

        Args:
            embeddings: item embeddings float ``[B, L, d0]``.
            sides: embeddings of each piece of side information, float ``[B, L, side size]``.
            last: the one position of every row that is asked for, int64 ``[B]``; ``None``: all.

        Returns:
            Float ``[B, L, d0]``, where state t has seen positions 0..t; or ``[B, d0]``.
        """
        length = embeddings.size(1)
        positions = self.position_embedding.weight[:length].expand_as(embeddings)
        hidden = self.dropout(self.norm(embeddings))
        number = torch.arange(length, device=embeddings.device)
        everywhere = number <= number.unsqueeze(1)  # [L, L]
        *lower, top = self.layers
        for layer in lower:
            hidden = layer(hidden, (positions, *sides), everywhere)
        if last is None:
            return top(hidden, (positions, *sides), everywhere)
        visible = (number <= last.unsqueeze(1))[:, None, None]  # [B, 1, 1, L]
        return top(hidden, (positions, *sides), visible, last).squeeze(1)


class DecoupledLayer(PostNormBlock):
    """Post-norm block of decoupled attention."""

    def __init__(
        self,
        attention: DecoupledAttention,
        hidden_size: int,
        inner_size: int,
        hidden_dropout_prob: float,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.make_feed_forward(hidden_size, inner_size, hidden_dropout_prob, layer_norm_eps)

    def forward(self, hidden: Tensor, beside: Sequence[Tensor], visible: Tensor, last: Tensor | None = None) -> Tensor:
        """Float ``[B, L, d0]`` to ``[B, L, d0]``, or to ``[B, 1, d0]`` at position ``last``; see the attention."""
        sources = (hidden, *beside)
        asking = sources if last is None else [_at(source, last) for source in sources]
        return self.add_and_feed_forward(asking[0], self.attention(asking, sources, visible))


class DecoupledAttention(nn.Module):
    """Multi-head attention whose scores are fused from those of several sources; the first gives the values.

    Args:
        sizes: embedding size of every source: items, positions, side information.
        n_heads: attention heads, which divide every size.
        dropout_prob: dropout of attention weights.
        fusion: maps scores float ``[B, heads, Q, S, L]`` of S sources to ``[B, heads, Q, L]``; ``None``: their sum.
    """

    def __init__(self, sizes: Sequence[int], n_heads: int, dropout_prob: float, fusion: nn.Module | None) -> None:
        super().__init__()
        self.n_heads, self.dropout_prob = n_heads, dropout_prob
        self.queries = nn.ModuleList(nn.Linear(size, size) for size in sizes)
        self.keys = nn.ModuleList(nn.Linear(size, size) for size in sizes)
        self.value = nn.Linear(sizes[0], sizes[0])
        self.output = nn.Linear(sizes[0], sizes[0])
        self.scale = (sizes[0] // n_heads) ** -0.5
        self.dropout = Dropout(dropout_prob)
        self.fusion = fusion

    def forward(self, asking: Sequence[Tensor], sources: Sequence[Tensor], visible: Tensor) -> Tensor:
        """Attend.

        Args:
            asking: what queries are made of, float ``[B, Q, size]`` of every source.
            sources: what keys are made of, float ``[B, L, size]`` of every source.
            visible: which keys a query sees, boolean, ``[Q, L]`` or ``[B, 1, Q, L]``.

        Returns:
            Float ``[B, Q, d0]``.
        """
        queries = [self._heads(layer(x)) for layer, x in zip(self.queries, asking, strict=True)]  # [B, heads, Q, ...]
        keys = [self._heads(layer(x)) for layer, x in zip(self.keys, sources, strict=True)]  # [B, heads, L, ...]
        value = self._heads(self.value(sources[0]))  # [B, heads, L, d0 / heads]
        if self.fusion is None:
            # The sum of the sources' inner products is the inner product of their vectors side by side.
            context = F.scaled_dot_product_attention(
                torch.cat(queries, dim=-1),
                torch.cat(keys, dim=-1),
                value,
                attn_mask=visible,
                dropout_p=self.dropout_prob if self.training else 0.0,
                scale=self.scale,
            )
        else:
            pairs = zip(queries, keys, strict=True)
            scores = torch.stack([query @ key.transpose(-1, -2) for query, key in pairs], dim=-2)  # [B, heads, Q, S, L]
            fused = self.fusion(scores.masked_fill(~visible.unsqueeze(-2), 0))  # [B, heads, Q, L]
            weights = (self.scale * fused).masked_fill(~visible, -torch.inf).softmax(dim=-1)
            context = self.dropout(weights).to(value.dtype) @ value
        return self.output(context.transpose(1, 2).flatten(2))

    def _heads(self, projected: Tensor) -> Tensor:
        """Float ``[B, L, size]`` to ``[B, heads, L, size / heads]``."""
        return projected.unflatten(2, (self.n_heads, -1)).transpose(1, 2)


class ConcatFusion(nn.Module):
    """The rows of all sources, one after the other, through one linear map to a row.

    Args:
        n_sources: S.
        max_seq_length: longest row; shorter ones take the part of the map that is theirs.
    """

    def __init__(self, n_sources: int, max_seq_length: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_sources * max_seq_length, max_seq_length)

    def forward(self, scores: Tensor) -> Tensor:
        """Float ``[..., S, L]`` to ``[..., L]``."""
        n_sources, length = scores.shape[-2:]
        weight = self.linear.weight.unflatten(1, (n_sources, -1))[:length, :, :length]  # [L, S, L]
        return F.linear(scores.flatten(-2), weight.flatten(1), self.linear.bias[:length])


class GateFusion(nn.Module):
    """A weighted sum of the sources' rows, the weights being a softmax of what a small network makes of each row.

    Args:
        max_seq_length: longest row, and width of the network; shorter rows take the part of it that is theirs.
    """

    def __init__(self, max_seq_length: int) -> None:
        super().__init__()
        self.inner = nn.Linear(max_seq_length, max_seq_length)
        self.outer = nn.Linear(max_seq_length, 1, bias=False)  # a bias would be the same for all sources

    def forward(self, scores: Tensor) -> Tensor:
        """Float ``[..., S, L]`` to ``[..., L]``."""
        inner = F.linear(scores, self.inner.weight[:, : scores.size(-1)], self.inner.bias)
        gates = self.outer(F.relu(inner)).softmax(dim=-2)  # [..., S, 1]
        return (gates * scores).sum(dim=-2)


def make_fusion(fusion_type: str, n_sources: int, max_seq_length: int) -> nn.Module | None:
    """The fusion called ``sum`` (``None``, which needs no module), ``concat`` or ``gate``."""
    if fusion_type == "sum":
        return None
    if fusion_type == "concat":
        return ConcatFusion(n_sources, max_seq_length)
    if fusion_type == "gate":
        return GateFusion(max_seq_length)
    raise ValueError(f"fusion_type must be sum, concat or gate, got {fusion_type!r}")


def _at(rows: Tensor, position: Tensor) -> Tensor:
    """Float ``[B, L, k]`` at one position a row, int64 ``[B]``: ``[B, 1, k]``."""
    return rows[torch.arange(len(rows), device=rows.device), position].unsqueeze(1)
