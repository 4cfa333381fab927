"""Causal transformer over left-aligned sequences (III-B 4): SASRec's layers on fused attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalTransformer(nn.Module):
    """Positions, LayerNorm and dropout, then ``n_layers`` post-norm blocks of self-attention and feed-forward.

    The same function as RecBole's SASRec encoder (``recbole.model.layers.TransformerEncoder`` behind a position
    embedding). Rows are left-aligned, so causality alone keeps padding out of every real position's sight.

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
        if hidden_size % n_heads:
            raise ValueError(f"hidden_size ({hidden_size}) must be a multiple of n_heads ({n_heads})")
        self.position_embedding = nn.Embedding(max_seq_length, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(hidden_dropout_prob)
        self.layers = nn.ModuleList(
            TransformerLayer(hidden_size, inner_size, n_heads, hidden_dropout_prob, attn_dropout_prob, layer_norm_eps)
            for _ in range(n_layers)
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map item embeddings float ``[B, L, d0]`` to hidden states ``[B, L, d0]``; state t sees positions 0..t."""
        hidden = embeddings + self.position_embedding.weight[: embeddings.size(1)]  # [B, L, d0]
        hidden = self.dropout(self.norm(hidden))
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class TransformerLayer(nn.Module):
    """Post-norm block: causal multi-head self-attention, then a point-wise feed-forward network with GELU."""

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
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.inner = nn.Linear(hidden_size, inner_size)
        self.outer = nn.Linear(inner_size, hidden_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(hidden_dropout_prob)

    def forward(self, hidden: Tensor) -> Tensor:
        """Float ``[B, L, d0]`` to ``[B, L, d0]``."""
        batch, length, size = hidden.shape
        heads = self.query_key_value(hidden).view(batch, length, 3, self.n_heads, size // self.n_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each [B, heads, L, d0 / heads]
        dropout = self.attn_dropout_prob if self.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        context = context.transpose(1, 2).reshape(batch, length, size)  # [B, L, d0]
        hidden = self.attention_norm(hidden + self.dropout(self.attention_output(context)))
        inner = self.outer(F.gelu(self.inner(hidden)))  # [B, L, d0]
        return self.feed_forward_norm(hidden + self.dropout(inner))


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
