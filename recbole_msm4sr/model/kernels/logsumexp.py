"""log Σ exp of inner products, with no more passes over the products than needed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def logsumexp_of_products(
    queries: Tensor, keys: Tensor, excluded: Tensor, gradient_dtype: torch.dtype | None = None
) -> Tensor:
    """``logsumexp(queries @ keys.T)`` of every row over the keys that are not excluded.

    Args:
        queries: float ``[B, d]``.
        keys: float ``[C, d]``.
        excluded: bool ``[B, C]``; every row leaves at least one key.
        gradient_dtype: what the matrix products of the backward pass are computed in, by default the dtype of
            ``queries``. The value, and the softmax that the gradient is made of, always are in the latter.

    Returns:
        ``[B]``, in the dtype of ``queries``.
    """
    return _LogSumExp.apply(queries, keys, excluded, gradient_dtype or queries.dtype)


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, excluded: Tensor, gradient_dtype: torch.dtype) -> Tensor:
        products = (queries @ keys.T).masked_fill_(excluded, float("-inf"))  # [B, C]
        share = products.softmax(dim=1)
        ctx.save_for_backward(*(tensor.to(gradient_dtype) for tensor in (queries, keys, share)))
        return products.amax(dim=1) - share.amax(dim=1).log()  # the largest share cannot underflow

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (grad,) = grad_outputs
        queries, keys, share = ctx.saved_tensors
        of_queries = (share @ keys).to(grad.dtype) * grad.unsqueeze(1)
        of_keys = share.T @ (queries * grad.unsqueeze(1).to(queries.dtype))
        return of_queries, of_keys.to(grad.dtype), None, None
