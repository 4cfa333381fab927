"""UniSRec's adaptor: a mixture of whitening experts with a noisy gate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_msm4sr.model.blocks.dropout import Dropout

_LEAST_NOISE = 1e-2


class WhiteningAdaptor(nn.Module):
    """Σ_k g_k (x − b_k) W_k with gates g = softmax(x W_g + ε softplus(x W_n)), ε ~ N(0, 1) in training only.

    Parametric whitening and the mixture of Hou et al., *Towards Universal Sequence Representation Learning for
    Recommender Systems* (KDD 2022), 2.1. The experts see x after dropout, the gate sees all of it. Here one dropout
    mask serves all experts of an item, so that they are one matrix product; the release draws one for each.

    Args:
        feature_size: d.
        hidden_size: d_0.
        n_experts: G.
        dropout_prob: of the experts' input.
    """

    def __init__(self, feature_size: int, hidden_size: int, n_experts: int, dropout_prob: float) -> None:
        super().__init__()
        self.experts = nn.Linear(feature_size, n_experts * hidden_size, bias=False)
        self.shift = nn.Parameter(torch.zeros(n_experts, feature_size))
        self.gate = nn.Parameter(torch.zeros(n_experts, feature_size))
        self.noise = nn.Parameter(torch.zeros(n_experts, feature_size))
        self.dropout = Dropout(dropout_prob)

    def forward(self, features: Tensor) -> Tensor:
        """Feature vectors float ``[n, d]`` to item embeddings ``[n, d0]``."""
        n_experts, feature_size = self.shift.shape
        weight = self.experts.weight.view(n_experts, -1, feature_size)  # [G, d0, d]
        shift = torch.einsum("gd,ghd->gh", self.shift, weight)  # b_k W_k, [G, d0]
        whitened = F.linear(self.dropout(features), self.experts.weight, -shift.flatten())  # [n, G * d0]
        gates = self._gates(features).unsqueeze(1)  # [n, 1, G]
        mixed = gates.to(whitened.dtype) @ whitened.unflatten(1, (n_experts, -1))  # [n, 1, d0]
        return mixed.squeeze(1).to(self.shift.dtype)

    def _gates(self, features: Tensor) -> Tensor:
        logits = F.linear(features, self.gate)  # [n, G]
        if self.training:
            deviation = F.softplus(F.linear(features, self.noise)) + _LEAST_NOISE
            logits = logits + torch.randn_like(logits) * deviation
        return logits.softmax(dim=-1)
