"""The items that a sampled softmax compares, and what corrects for how they were chosen."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CandidateSampler(nn.Module):
    """Draws the candidates of a batch: its own targets and random negatives, each item once.

    A softmax over such a sample estimates the softmax over all items once log Q is subtracted from the scores, Q being
    the probability that an item is among the candidates (logQ correction; Bengio and Senécal, *Adaptive importance
    sampling to accelerate training of a neural probabilistic language model*, 2008). Without it, or with a part of it,
    an item pays for being compared often: scores tend to log P(item | history) - log P(item), as contrastive losses do.

    Args:
        counts: how often an item is a target in training; int64 ``[n_items]``, 0 for the padding item 0.
        n_negatives: draws K beside the batch's targets, with replacement.
        distribution: ``uniform`` over all items, or ``popularity``: proportional to an item's count plus one.
        logq_correction: share of log Q to subtract, 0 to 1.
    """

    popularity: Tensor
    proposal: Tensor
    cumulative: Tensor

    def __init__(self, counts: Tensor, n_negatives: int, distribution: str, logq_correction: float = 1.0) -> None:
        super().__init__()
        weight = counts.double() + 1 if distribution == "popularity" else torch.ones(len(counts), dtype=torch.double)
        weight[0] = 0  # padding
        proposal = weight / weight.sum()
        self.n_negatives, self.logq_correction = n_negatives, logq_correction
        self.register_buffer("popularity", (counts / counts.sum()).float(), persistent=False)
        self.register_buffer("proposal", proposal.float(), persistent=False)
        self.register_buffer("cumulative", proposal.cumsum(0), persistent=False)

    def draw(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Candidates of a batch.

        Args:
            targets: int64 ``[P]``.

        Returns:
            The candidates, int64 ``[C]``, distinct and rising, all targets among them; and what to subtract from their
            scores, ``logq_correction`` log Q, float32 ``[C]``, where an item's Q is ``1 - (1 - p)^P (1 - q)^K`` with
            its share p of training targets and its probability q of a draw.
        """
        uniform = torch.rand(self.n_negatives, dtype=self.cumulative.dtype, device=targets.device)
        drawn = torch.searchsorted(self.cumulative, uniform * self.cumulative[-1], right=True)
        candidates = torch.cat([targets, drawn.clamp_(max=len(self.cumulative) - 1)]).unique()
        log_absent = len(targets) * torch.log1p(-self.popularity[candidates])
        log_absent = log_absent + self.n_negatives * torch.log1p(-self.proposal[candidates])
        return candidates, self.logq_correction * torch.log(-torch.expm1(log_absent))
