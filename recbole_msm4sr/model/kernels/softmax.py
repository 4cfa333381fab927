"""Cross entropy of inner products with every item, without ever holding all scores (eq. 13)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def softmax_cross_entropy(vectors: Tensor, items: Tensor, label: Tensor, scores_at_once: int = 1 << 22) -> Tensor:
    """Sum over the rows of ``-log softmax(vectors @ items.T)[label]``.

    Gradients are made in the forward pass, block by block, while a block's scores are at hand. Scores are computed in
    the dtype of ``vectors`` and ``items``, their softmax in float32 (float64 where they are float64). PyTorch's own
    chunked ``linear_cross_entropy`` is several times slower on a CPU (docs/performance.md).

    Args:
        vectors: float ``[P, k]``.
        items: float ``[n, k]``.
        label: which row of ``items`` is right, int64 ``[P]``.
        scores_at_once: scores held at a time.

    Returns:
        Scalar sum.
    """
    return _SoftmaxCrossEntropy.apply(vectors, items, label, scores_at_once)


class _SoftmaxCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, items: Tensor, label: Tensor, scores_at_once: int) -> Tensor:
        exact = torch.promote_types(vectors.dtype, torch.float32)
        total = torch.zeros((), dtype=exact, device=vectors.device)
        grad_vectors = torch.empty_like(vectors)
        grad_items = torch.zeros(items.shape, dtype=exact, device=items.device)
        n_rows = max(1, scores_at_once // len(items))
        for begin in range(0, len(vectors), n_rows):
            block = slice(begin, begin + n_rows)
            positive = label[block].unsqueeze(1)
            share = (vectors[block] @ items.T).to(exact)  # [p, n]
            highest = share.amax(dim=1, keepdim=True)
            own = share.gather(1, positive)
            share.sub_(highest).exp_()
            sums = share.sum(dim=1, keepdim=True)
            total += (highest - own + sums.log()).sum()  # in this order: log is small beside large scores
            share.div_(sums).scatter_add_(1, positive, -torch.ones_like(own))  # d loss / d scores
            share = share.to(vectors.dtype)
            grad_vectors[block] = share @ items
            if share.dtype == exact:
                grad_items.addmm_(share.T, vectors[block])
            else:
                grad_items += share.T @ vectors[block]
        ctx.save_for_backward(grad_vectors, grad_items.to(items.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_vectors, grad_items = ctx.saved_tensors
        (scale,) = grad_outputs
        return grad_vectors * scale, grad_items * scale, None, None
