"""Causal transformer over left-aligned sequences (III-B 4): SASRec's layers on fused attention."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_msm4sr.model.blocks.dropout import Dropout


class CausalTransformer(nn.Module):
    """Positions, LayerNorm and dropout, then ``n_layers`` post-norm blocks of self-attention and feed-forward.

    The same function as RecBole's SASRec encoder (``recbole.model.layers.TransformerEncoder`` behind a position
    embedding). Rows are left-aligned, so the causal mask alone hides padding from every real position.

    Args:
        hidden_size: d_0, a multiple of ``n_heads``.
        inner_size: width of the feed-forward layer.
        n_layers, n_heads: blocks and attention heads.
        max_seq_length: longest row.
        hidden_dropout_prob, attn_dropout_prob: dropout of hidden states and of attention weights.
        layer_norm_eps: added to the variance.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        inner_size: int,
        n_layers: int,
        n_heads: int,
        max_seq_length: int,
        hidden_dropout_prob: float,
        attn_dropout_prob: float,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(max_seq_length, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = Dropout(hidden_dropout_prob)
        self.layers = nn.ModuleList(
            TransformerLayer(hidden_size, inner_size, n_heads, hidden_dropout_prob, attn_dropout_prob, layer_norm_eps)
            for _ in range(n_layers)
        )

    def forward(self, embeddings: Tensor, last: Tensor | None = None) -> Tensor:
        """Hidden states of sequences; all streams go through as one batch.

        Args:
            embeddings: item embeddings float ``[S, U, L, d0]``, or ``[U, L, d0]``.
            last: the one position of every row that is asked for, int64 ``[U]``, so that the last layer computes no
                other; ``None``: all.

        Returns:
            Float ``[S, U, L, d0]``, where state t has seen positions 0..t; or ``[S, U, d0]``.
        """
        rows = embeddings.flatten(0, -3)  # [S * U, L, d0]
        hidden = rows + self.position_embedding.weight[: rows.size(1)]
        hidden = self.dropout(self.norm(hidden))
        *lower, top = self.layers
        for layer in lower:
            hidden = layer(hidden)
        if last is None:
            return top(hidden).view_as(embeddings)
        states = cast(TransformerLayer, top).last_state(hidden, last.repeat(len(rows) // len(last)))  # [S * U, d0]
        return states.unflatten(0, embeddings.shape[:-2])


class PostNormBlock(nn.Module):
    """What follows attention in a block: LayerNorm of the sum, then a point-wise feed-forward network with GELU."""

    def make_feed_forward(self, hidden_size: int, inner_size: int, dropout_prob: float, layer_norm_eps: float) -> None:
        """Make the layers; after those of the attention, whose initial weights are drawn first."""
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.inner = nn.Linear(hidden_size, inner_size)
        self.outer = nn.Linear(inner_size, hidden_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = Dropout(dropout_prob)

    def add_and_feed_forward(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """The block's outcome from its input and what attention made of it; float ``[..., d0]`` each."""
        hidden = self.attention_norm(hidden + self.dropout(attended))
        inner = self.outer(F.gelu(self.inner(hidden)))  # [..., d0]
        return self.feed_forward_norm(hidden + self.dropout(inner))


class TransformerLayer(PostNormBlock):
    """Post-norm block of causal multi-head self-attention."""

    def __init__(
        self,
        hidden_size: int,
        inner_size: int,
        n_heads: int,
        hidden_dropout_prob: float,
        attn_dropout_prob: float,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attn_dropout_prob = attn_dropout_prob
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.attention_output = nn.Linear(hidden_size, hidden_size)
        self.make_feed_forward(hidden_size, inner_size, hidden_dropout_prob, layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        """Float ``[B, L, d0]`` to ``[B, L, d0]``."""
        query, key, value = self._heads(self.query_key_value(hidden), 3)  # each [B, heads, L, d0 / heads]
        context = F.scaled_dot_product_attention(query, key, value, dropout_p=self._attention_dropout, is_causal=True)
        context = context.transpose(1, 2).reshape_as(hidden)  # [B, L, d0]
        return self.add_and_feed_forward(hidden, self.attention_output(context))

    def last_state(self, hidden: Tensor, last: Tensor) -> Tensor:
        """Row b of ``forward`` at position ``last[b]`` alone: float ``[B, L, d0]`` and int64 ``[B]`` to ``[B, d0]``."""
        size = hidden.size(-1)
        weights = self.query_key_value.weight.split([size, 2 * size])
        biases = self.query_key_value.bias.split([size, 2 * size])
        position = torch.arange(hidden.size(1), device=hidden.device)
        own = hidden[torch.arange(len(hidden), device=hidden.device), last]  # [B, d0]
        (query,) = self._heads(F.linear(own, weights[0], biases[0]).unsqueeze(1), 1)  # [B, heads, 1, d0 / heads]
        key, value = self._heads(F.linear(hidden, weights[1], biases[1]), 2)  # [B, heads, L, d0 / heads]
        context = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=(position <= last.unsqueeze(1))[:, None, None],  # [B, 1, 1, L]
            dropout_p=self._attention_dropout,
        )
        return self.add_and_feed_forward(own, self.attention_output(context.reshape_as(own)))

    def _heads(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Split float ``[B, L, parts * d0]`` into ``parts`` tensors ``[B, heads, L, d0 / heads]``."""
        batch, length, width = projected.shape
        heads = projected.view(batch, length, parts, self.n_heads, width // (parts * self.n_heads))
        return heads.permute(2, 0, 3, 1, 4).unbind()

    @property
    def _attention_dropout(self) -> float:
        return self.attn_dropout_prob if self.training else 0.0


def transformer_settings(config: Any) -> dict[str, Any]:
    """What ``properties/model/Transformer.yaml`` sets, as arguments of ``CausalTransformer`` and its relatives."""
    names = ("inner_size", "n_layers", "n_heads", "hidden_dropout_prob", "attn_dropout_prob", "layer_norm_eps")
    return {"max_seq_length": config["MAX_ITEM_LIST_LENGTH"], **{name: config[name] for name in names}}


def initialise(module: nn.Module, std: float) -> None:
    """BERT's initialisation, for ``nn.Module.apply``: normal weights, zero biases, unit LayerNorms."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
