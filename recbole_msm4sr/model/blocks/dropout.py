"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 1 << 16


def keep_mask(shape: torch.Size, drop_prob: float, device: torch.device) -> Tensor:
    """Boolean mask of ``shape``, true with probability ``1 - drop_prob`` (to within 2^-16).

    On a CPU four elements share one 64-bit random number of torch's default generator; torch's own Bernoulli
    numbers cost ten times as much.
    """
    if device.type != "cpu":
        return torch.rand(shape, device=device) >= drop_prob
    n = shape.numel()
    words = torch.empty(-(-n // 4), dtype=torch.int64, device=device).random_(-(2**63), None)
    threshold = min(round(drop_prob * _LEVELS), _LEVELS - 1) - _LEVELS // 2
    return (words.view(torch.int16)[:n] >= threshold).view(shape)


class Dropout(nn.Dropout):
    """``nn.Dropout`` with ``keep_mask`` on CPUs: the same distribution, other random numbers."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return F.dropout(input, self.p, self.training)
        return input * keep_mask(input.shape, self.p, input.device).to(input.dtype).div_(1 - self.p)
