"""``logsumexp_of_products`` against PyTorch's logsumexp of masked products."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recbole_msm4sr.model.kernels.logsumexp import logsumexp_of_products


def make_inputs(n_queries: int = 5, n_keys: int = 8, size: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys with gradient, and a mask that leaves row 0 one key and row 1 all of them."""
    queries, keys = (torch.randn(n, size, dtype=torch.float64).requires_grad_() for n in (n_queries, n_keys))
    excluded = torch.rand(n_queries, n_keys) < 0.5
    excluded[:, -1] = False
    excluded[0, :-1] = True
    excluded[1] = False
    return queries, keys, excluded


def plain(queries: Tensor, keys: Tensor, excluded: Tensor) -> Tensor:
    return (queries @ keys.T).masked_fill(excluded, float("-inf")).logsumexp(dim=1)


def test_value_and_gradients_are_those_of_logsumexp() -> None:
    queries, keys, excluded = make_inputs()
    ours, expected = logsumexp_of_products(queries, keys, excluded, queries.dtype), plain(queries, keys, excluded)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn(5, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad((ours * weight).sum(), (queries, keys)),
        torch.autograd.grad((expected * weight).sum(), (queries, keys)),
        rtol=1e-11,
        atol=1e-12,
    )


def test_excluded_keys_have_no_gradient_however_large() -> None:
    queries, keys, excluded = make_inputs()
    excluded[:, 2] = True
    excluded[1:, 3] = False
    with torch.no_grad():
        keys[2] *= 1e6
    logsumexp_of_products(queries, keys, excluded, queries.dtype).sum().backward()
    assert (keys.grad[2] == 0).all()
    assert keys.grad[3].abs().sum() > 0


@pytest.mark.parametrize("sign", [1, -1])
def test_large_products_overflow_neither_value_nor_gradients(sign: int) -> None:
    queries, keys, excluded = make_inputs()
    queries, keys = (queries.detach() * 1e2).float(), (keys.detach() * 1e2 * sign).float()
    inputs = queries.requires_grad_(), keys.requires_grad_()
    assert (queries @ keys.T).abs().max() > 1e4
    ours, expected = (
        logsumexp_of_products(*inputs, excluded, torch.float32),
        plain(queries.double(), keys.double(), excluded),
    )
    torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=1e-2)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), inputs), torch.autograd.grad(expected.sum(), inputs), rtol=1e-4, atol=1e-2
    )


def test_bfloat16_is_for_the_products_of_the_gradients_alone() -> None:
    """Gradients within one percent in norm, in float32; the value is float32's own."""
    queries, keys, excluded = make_inputs(50, 200, 16)
    inputs = [tensor.detach().float().requires_grad_() for tensor in (queries, keys)]
    weight = torch.randn(50)
    low, exact = (logsumexp_of_products(*inputs, excluded, dtype) for dtype in (torch.bfloat16, torch.float32))
    assert torch.equal(low, exact)
    pairs = zip(*(torch.autograd.grad((value * weight).sum(), inputs) for value in (low, exact)), strict=True)
    for ours, expected in pairs:
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, expected)
        assert (ours - expected).norm() < 0.01 * expected.norm()


def test_equal_products_count_each() -> None:
    """With n equal products the largest share is 1 / n."""
    queries, keys = torch.ones(2, 3), torch.ones(4096, 3)
    excluded = torch.zeros(2, 4096, dtype=torch.bool)
    expected = torch.full((2,), 3 + 12 * torch.tensor(2.0).log().item())
    torch.testing.assert_close(logsumexp_of_products(queries, keys, excluded, queries.dtype), expected)


def test_without_queries_there_are_no_rows() -> None:
    queries, keys, excluded = make_inputs(5)
    assert logsumexp_of_products(queries[:0], keys, excluded[:0], queries.dtype).shape == (0,)


def test_inputs_stay_as_they_are() -> None:
    queries, keys, excluded = make_inputs()
    copies = queries.detach().clone(), keys.detach().clone(), excluded.clone()
    logsumexp_of_products(queries, keys, excluded, queries.dtype).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip((queries, keys, excluded), copies, strict=True))


def test_second_derivatives_are_refused() -> None:
    queries, keys, excluded = make_inputs()
    loss = logsumexp_of_products(queries, keys, excluded, queries.dtype).square().sum()
    (gradient,) = torch.autograd.grad(loss, queries, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
