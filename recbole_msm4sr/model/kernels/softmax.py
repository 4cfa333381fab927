"""Cross entropy of inner products with every item, without ever holding all scores (eq. 13)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Scores held at a time.
_SCORES_AT_ONCE = 1 << 22


def softmax_cross_entropy(vectors: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """Sum over the rows of ``-log softmax(vectors @ items.T)[target]``.

    Gradients are made in the forward pass, block by block, while a block's scores are at hand. Scores are computed in
    the dtype of ``vectors`` and ``items``, their softmax in float32 (float64 where they are float64). PyTorch's own
    chunked ``linear_cross_entropy`` is several times slower on a CPU (docs/performance.md).

    Args:
        vectors: float ``[P, k]``.
        items: float ``[n, k]``.
        target: row of ``items``, int64 ``[P]``.

    Returns:
        Scalar sum.
    """
    return _SoftmaxCrossEntropy.apply(vectors, items, target)


class _SoftmaxCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, items: Tensor, target: Tensor) -> Tensor:
        exact = torch.promote_types(vectors.dtype, torch.float32)
        total = torch.zeros((), dtype=exact, device=vectors.device)
        grad_vectors = torch.empty_like(vectors)
        grad_items = torch.zeros(items.shape, dtype=exact, device=items.device)
        n_rows = max(1, _SCORES_AT_ONCE // len(items))
        for begin in range(0, len(vectors), n_rows):
            block = slice(begin, begin + n_rows)
            positive = target[block].unsqueeze(1)
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
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_vectors, grad_items = ctx.saved_tensors
        (scale,) = grad_outputs
        return grad_vectors * scale, grad_items * scale, None
