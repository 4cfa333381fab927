"""``softmax_cross_entropy`` (eq. 13) against PyTorch's cross entropy of all scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recbole_msm4sr.model.kernels.softmax import softmax_cross_entropy

N_ITEMS = 7
SCORES_AT_ONCE = [1, 2 * N_ITEMS, 4 * N_ITEMS - 1, 1 << 22]  # 1, 2 and 3 rows at a time, and all

every_block_size = pytest.mark.parametrize("scores_at_once", SCORES_AT_ONCE)


def make_inputs(n_rows: int = 9, size: int = 4, n_items: int = N_ITEMS) -> tuple[Tensor, Tensor, Tensor]:
    vectors, items = (torch.randn(n, size, dtype=torch.float64).requires_grad_() for n in (n_rows, n_items))
    return vectors, items, torch.randint(n_items, (n_rows,))


def plain(vectors: Tensor, items: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(vectors @ items.T, label, reduction="sum")


@every_block_size
@pytest.mark.parametrize("n_rows", [1, 6, 9])
def test_value_and_gradients_are_those_of_cross_entropy(n_rows: int, scores_at_once: int) -> None:
    vectors, items, label = make_inputs(n_rows)
    ours = softmax_cross_entropy(vectors, items, label, scores_at_once)
    expected = plain(vectors, items, label)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (vectors, items)),
        torch.autograd.grad(expected, (vectors, items)),
        rtol=1e-11,
        atol=1e-12,
    )


def test_gradients_are_scaled_by_what_comes_after() -> None:
    vectors, items, label = make_inputs()
    ours = torch.autograd.grad((-2.5 * softmax_cross_entropy(vectors, items, label)).exp(), (vectors, items))
    expected = torch.autograd.grad((-2.5 * plain(vectors, items, label)).exp(), (vectors, items))
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-30)


def test_the_same_vectors_may_be_both_sides() -> None:
    """The fine-tuning table makes the users' vectors and the items': gradients of both ways add up."""
    table, _, _ = make_inputs()
    label = torch.tensor([3, 0, 0])
    (ours,) = torch.autograd.grad(softmax_cross_entropy(table[:3], table, label), table)
    (expected,) = torch.autograd.grad(plain(table[:3], table, label), table)
    torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_large_scores_overflow_neither_loss_nor_gradients(sign: int) -> None:
    vectors, items, label = make_inputs()
    vectors, items = (vectors.detach() * 1e2).float(), (items.detach() * 1e2 * sign).float()
    inputs = vectors.requires_grad_(), items.requires_grad_()
    assert (vectors @ items.T).abs().max() > 1e4
    loss = softmax_cross_entropy(*inputs, label)
    expected = plain(vectors.double(), items.double(), label)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours = torch.autograd.grad(loss, inputs)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, inputs), rtol=1e-4, atol=1e-2)


def test_without_rows_the_sum_is_zero() -> None:
    vectors, items, label = make_inputs(n_rows=0)
    loss = softmax_cross_entropy(vectors, items, label)
    loss.backward()
    assert loss.item() == 0
    assert vectors.grad.shape == vectors.shape
    assert (items.grad == 0).all()


def test_the_only_item_is_certain() -> None:
    vectors, items, label = make_inputs(n_items=1)
    loss = softmax_cross_entropy(vectors, items, label)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(vectors.grad, torch.zeros_like(vectors), rtol=0, atol=1e-12)


@pytest.mark.parametrize("wrong", [-1, N_ITEMS])
def test_a_label_that_is_not_an_item_is_refused(wrong: int) -> None:
    vectors, items, label = make_inputs()
    label[4] = wrong
    with pytest.raises(RuntimeError, match=f"index {wrong} is out of bounds"):
        softmax_cross_entropy(vectors, items, label)


@pytest.mark.parametrize("n_rows_at_once", [1, 7, 1000])
def test_bfloat16_is_close_to_float32(n_rows_at_once: int) -> None:
    """Gradients within half a percent in norm, over however many blocks; the loss is float32."""
    vectors, items, label = make_inputs(200, 16, 50)
    low = [tensor.detach().bfloat16().requires_grad_() for tensor in (vectors, items)]
    exact = [tensor.detach().float().requires_grad_() for tensor in low]
    loss = softmax_cross_entropy(*low, label, scores_at_once=n_rows_at_once * 50)
    expected = plain(*exact, label)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    loss.backward()
    expected.backward()
    for ours, reference in zip(low, exact, strict=True):
        assert ours.grad.dtype == torch.bfloat16
        assert (ours.grad.float() - reference.grad).norm() < 0.005 * reference.grad.norm()


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.size = max([self.size, *sizes])
        return result


def test_never_more_scores_than_asked_for_are_held() -> None:
    vectors, items, label = make_inputs(100, 2, 60)  # 6000 scores
    with LargestTensor() as largest:
        softmax_cross_entropy(vectors, items, label, scores_at_once=300).backward()
    assert largest.size == 300


@pytest.mark.parametrize("sign", [1, -1])
def test_a_small_loss_beside_large_scores_is_exact(sign: int) -> None:
    """Scores about ±1e4, of which float32 holds three decimals; their difference, 5, is exact."""
    vectors, items, label = torch.tensor([[100.0]]), torch.tensor([[100.0], [99.95]]) * sign, torch.tensor([0])
    loss = softmax_cross_entropy(vectors, items, label)
    assert loss.item() == pytest.approx(plain(vectors.double(), items.double(), label).item(), rel=1e-3)


def test_second_derivatives_are_refused() -> None:
    vectors, items, label = make_inputs()
    loss = softmax_cross_entropy(vectors, items, label).square()
    (gradient,) = torch.autograd.grad(loss, vectors, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
