"""Attention pooling and mixture of experts (eq. 3-5) as one function with a hand-written backward pass.

What limits these equations is memory traffic, not arithmetic. So items are taken in blocks whose intermediate results
stay in a CPU's cache, feature rows are turned from half to single precision inside a block, forward and again
backward, and dropped positions are folded into what LayerNorm reads.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_msm4sr.model.blocks.dropout import keep_mask

#: Feature rows and items encoded at a time on a CPU.
_ROWS_AT_ONCE = 2048
_LAYER_NORM_EPS = 1e-5


class Block(NamedTuple):
    """Items ``first:last``, which own the rows ``begin:end``."""

    first: int
    last: int
    begin: int
    end: int

    @property
    def n_rows(self) -> int:
        return self.end - self.begin


class Kept(NamedTuple):
    """What backward needs of a block."""

    offsets: Tensor  # [m + 1], of the block's own rows
    alpha: Tensor  # [r]
    pooled: Tensor  # [m, d]
    hidden: Tensor  # [m, O, d0], dropped but not scaled
    gates: Tensor  # [m, O]
    mask: Tensor | None  # [m, O, d0]
    mean: Tensor  # [m, O, 1]
    scale: Tensor  # [m, O, 1]


class Mixture(NamedTuple):
    """Parameters of O experts and their gate (eq. 4-5): linear maps, and each expert's LayerNorm."""

    weight: Tensor  # [O * d0, d]
    bias: Tensor  # [O * d0]
    gate_weight: Tensor  # [O, d]
    gate_bias: Tensor  # [O]
    gain: Tensor  # [O, d0]
    shift: Tensor  # [O, d0]


def encode(
    rows: Tensor, offsets: Tensor, attention: Tensor, mixture: Mixture, drop_prob: float, dtype: torch.dtype
) -> Tensor:
    """z of every item (eq. 3-5).

    Args:
        rows: the items' feature rows, one item after the other; float ``[R, d]``, of any float dtype, without gradient.
        offsets: item i owns ``rows[offsets[i]:offsets[i + 1]]``; int64 ``[n + 1]``. An item may own none.
        attention: the fused vector W1 W2 of eq. 3, ``[d]``. (Its bias shifts all logits alike, which a softmax
            does not see.)
        mixture: the experts.
        drop_prob: dropout of the experts' linear maps, 0 in evaluation.
        dtype: what the experts, their gate's logits and their LayerNorms are computed in. Attention, both softmaxes and
            all sums over items are in the dtype of ``attention``.

    Returns:
        ``[n, d0]``, in the dtype of ``attention``.
    """
    return _Encode.apply(rows, offsets, drop_prob, dtype, torch.is_grad_enabled(), attention, *mixture)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        offsets: Tensor,
        drop_prob: float,
        dtype: torch.dtype,
        grad_enabled: bool,
        attention: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        mixture = Mixture(*parameters)
        n_experts, size = mixture.gain.shape
        low = [tensor.to(dtype) for tensor in mixture]
        weight, bias, gate_weight, gate_bias, gain, _ = low
        encoded = attention.new_empty(len(offsets) - 1, size)
        kept: list[Tensor | None] = []
        blocks = cut_into_blocks(offsets, len(rows))
        buffer = _buffer(blocks, attention)
        for block in blocks:
            part = offsets[block.first : block.last + 1] - block.begin
            x = buffer[: block.n_rows].copy_(rows[block.begin : block.end])  # [r, d]
            alpha = segment_softmax(x @ attention, part)  # [r]
            pooled = _weighted_sums(x, part, alpha).to(dtype)  # [m, d]
            hidden = torch.addmm(bias, pooled, weight.T).view(-1, n_experts, size)  # [m, O, d0]
            gates = torch.addmm(gate_bias, pooled, gate_weight.T).to(attention.dtype).softmax(dim=-1)  # [m, O]
            mask = None
            if drop_prob:
                mask = keep_mask(hidden.shape, drop_prob, hidden.device).to(dtype)
                hidden.mul_(mask)
            normal, mean, scale = _layer_norm(hidden, drop_prob)
            mixed = torch.bmm(gates.to(dtype).unsqueeze(1), normal * gain).squeeze(1)
            torch.addmm(mixed.to(attention.dtype), gates, mixture.shift, out=encoded[block.first : block.last])
            if grad_enabled and any(ctx.needs_input_grad):
                kept += Kept(part, alpha, pooled, hidden, gates, mask, mean, scale)
        ctx.save_for_backward(rows, attention, *mixture, *kept)
        ctx.blocks, ctx.drop_prob, ctx.dtype = blocks, drop_prob, dtype
        return encoded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        rows, attention, *tensors = ctx.saved_tensors
        n_parameters, n_kept = len(Mixture._fields), len(Kept._fields)
        mixture = Mixture(*tensors[:n_parameters])
        kept = (Kept(*tensors[i : i + n_kept]) for i in range(n_parameters, len(tensors), n_kept))
        weight, gate_weight, gain = (t.to(ctx.dtype) for t in (mixture.weight, mixture.gate_weight, mixture.gain))
        grad_attention = torch.zeros_like(attention)
        grads = Mixture(*map(torch.zeros_like, mixture))
        buffer = _buffer(ctx.blocks, attention)
        for block, (part, alpha, pooled, hidden, gates, mask, mean, scale) in zip(ctx.blocks, kept, strict=True):
            exact = grad[block.first : block.last]  # [m, d0]
            low = exact.to(ctx.dtype).unsqueeze(1)  # [m, 1, d0]
            # the mixture (eq. 5)
            normal, _, _ = _layer_norm(hidden, ctx.drop_prob)  # [m, O, d0]
            of_normal = torch.bmm(gates.to(ctx.dtype).unsqueeze(2), low)  # [m, O, d0], without the gain
            grads.gain.add_((of_normal * normal).sum(dim=0))
            grads.shift.addmm_(gates.T, exact)
            of_gates = torch.bmm(normal * gain, low.transpose(1, 2)).squeeze(2).to(grad.dtype)
            of_gates = of_gates + exact @ mixture.shift.T  # [m, O]
            of_gate_logits = gates * (of_gates - (gates * of_gates).sum(dim=-1, keepdim=True))
            # the experts (eq. 4)
            of_hidden = torch.ops.aten.native_layer_norm_backward(
                of_normal.mul_(gain), hidden, (hidden.size(-1),), mean, scale, None, None, (True, False, False)
            )[0]
            if mask is not None:
                of_hidden.mul_(mask)
            of_hidden = of_hidden.flatten(1)  # [m, O * d0]
            low_gate = of_gate_logits.to(ctx.dtype)
            grads.weight.add_(of_hidden.T @ pooled)
            grads.bias.add_(of_hidden.sum(dim=0, dtype=grad.dtype))
            grads.gate_weight.add_(low_gate.T @ pooled)
            grads.gate_bias.add_(of_gate_logits.sum(dim=0))
            of_pooled = torch.addmm(of_hidden @ weight, low_gate, gate_weight).to(grad.dtype)  # [m, d]
            # attention (eq. 3)
            x = buffer[: block.n_rows].copy_(rows[block.begin : block.end])
            of_alpha = _row_products(x, part, of_pooled)  # [r]
            of_logits = alpha * (of_alpha - _segment_sum(alpha * of_alpha, part))
            grad_attention.addmv_(x.T, of_logits)
        return None, None, None, None, None, grad_attention, *grads


def cut_into_blocks(offsets: Tensor, n_rows: int) -> list[Block]:
    """Cut items into blocks of about ``_ROWS_AT_ONCE`` rows and items on a CPU; elsewhere one block holds them all."""
    n_items = len(offsets) - 1
    if offsets.device.type != "cpu":
        return [Block(0, n_items, 0, n_rows)]
    size = offsets.numpy() + np.arange(n_items + 1)  # of all before an item; an item without rows counts too
    ends = size.searchsorted(np.arange(_ROWS_AT_ONCE, n_rows + n_items, _ROWS_AT_ONCE)).tolist()
    return [
        Block(first, last, int(offsets[first]), int(offsets[last]))
        for first, last in pairwise(sorted({0, *ends, n_items}))
    ]


def _buffer(blocks: list[Block], like: Tensor) -> Tensor:
    """Memory for the float rows of any one block, ``[r, d]``."""
    return like.new_empty(max((block.n_rows for block in blocks), default=0), len(like))


def _layer_norm(hidden: Tensor, drop_prob: float) -> tuple[Tensor, Tensor, Tensor]:
    """LayerNorm over the last dimension of ``hidden / (1 - drop_prob)``: only ε sees dropout's scale."""
    return torch.native_layer_norm(hidden, (hidden.size(-1),), None, None, _LAYER_NORM_EPS * (1 - drop_prob) ** 2)


def _weighted_sums(rows: Tensor, offsets: Tensor, alpha: Tensor) -> Tensor:
    index = torch.arange(len(rows), device=rows.device)
    return F.embedding_bag(index, rows, offsets, per_sample_weights=alpha, mode="sum", include_last_offset=True)


def _segment_of_rows(offsets: Tensor, n_rows: int) -> Tensor:
    """The segment of each of ``n_rows = offsets[-1]`` rows, int64 ``[R]``; given their number, no wait for a device."""
    return torch.arange(len(offsets) - 1, device=offsets.device).repeat_interleave(offsets.diff(), output_size=n_rows)


def _row_products(rows: Tensor, offsets: Tensor, vectors: Tensor) -> Tensor:
    """Inner product of every row ``[R, d]`` with the vector ``[n, d]`` of its segment; ``[R]``."""
    index = torch.arange(len(rows), device=rows.device)
    return torch.ops.aten._embedding_bag_per_sample_weights_backward(
        vectors, rows, index, offsets[:-1], _segment_of_rows(offsets, len(rows)), 0
    )


def _segment_sum(values: Tensor, offsets: Tensor) -> Tensor:
    """The sum of each element's segment, for every element; ``[R]``."""
    segment = _segment_of_rows(offsets, len(values))
    return values.new_zeros(len(offsets) - 1).index_add_(0, segment, values)[segment]


def segment_softmax(logits: Tensor, offsets: Tensor) -> Tensor:
    """Softmax of ``logits`` float ``[R]`` within each segment ``offsets[i]:offsets[i + 1]`` (int64 ``[n + 1]``)."""
    segment = _segment_of_rows(offsets, len(logits))
    n_segments = len(offsets) - 1
    highest = logits.new_zeros(n_segments).scatter_reduce(0, segment, logits, reduce="amax", include_self=False)
    exponent = (logits - highest[segment]).exp()
    total = logits.new_zeros(n_segments).index_add(0, segment, exponent)
    return exponent / total[segment]
