"""``keep_mask`` and ``Dropout``: rate, independence, reproducibility and gradient of the cheap masks."""

from __future__ import annotations

import pytest
import torch

from recbole_msm4sr.model.blocks.dropout import Dropout, keep_mask

CPU = torch.device("cpu")
N = 200_000

every_probability = pytest.mark.parametrize("drop_prob", [0.001, 0.1, 0.5, 0.9])


def five_sigma(drop_prob: float, n: int) -> float:
    """Five standard deviations of a rate over n draws."""
    return 5 * (drop_prob * (1 - drop_prob) / n) ** 0.5


@every_probability
def test_elements_are_dropped_at_the_asked_rate(drop_prob: float) -> None:
    keep = keep_mask(torch.Size([N]), drop_prob, CPU)
    assert keep.dtype == torch.bool
    assert 1 - keep.double().mean().item() == pytest.approx(drop_prob, abs=five_sigma(drop_prob, N))


@every_probability
def test_every_quarter_of_a_random_number_drops_at_that_rate(drop_prob: float) -> None:
    rates = 1 - keep_mask(torch.Size([N // 4, 4]), drop_prob, CPU).double().mean(dim=0)
    for rate in rates.tolist():
        assert rate == pytest.approx(drop_prob, abs=five_sigma(drop_prob, N // 4))


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 64])
def test_neighbours_are_uncorrelated(distance: int) -> None:
    sign = keep_mask(torch.Size([N]), 0.5, CPU).double() * 2 - 1
    correlation = (sign[distance:] * sign[:-distance]).mean().item()
    assert abs(correlation) < 5 / N**0.5


def test_no_probability_keeps_all() -> None:
    assert keep_mask(torch.Size([N]), 0.0, CPU).all()


@pytest.mark.parametrize("drop_prob", [1 - 2**-16, 1 - 2**-17, 1 - 2**-30])
def test_a_probability_next_to_one_keeps_next_to_nothing(drop_prob: float) -> None:
    assert keep_mask(torch.Size([N]), drop_prob, CPU).sum() < 40


@pytest.mark.parametrize("shape", [(), (1,), (2,), (3,), (5,), (7, 3), (2, 3, 5), (0,), (3, 0)])
def test_any_shape_has_a_mask(shape: tuple[int, ...]) -> None:
    keep = keep_mask(torch.Size(shape), 0.5, CPU)
    assert keep.shape == shape
    dropped = Dropout(0.5)(torch.ones(shape))
    assert dropped.shape == shape
    assert ((dropped == 0) | (dropped == 2)).all()


def test_masks_follow_the_seed_and_differ_from_call_to_call() -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append([keep_mask(torch.Size([1001]), 0.5, CPU) for _ in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*draws, strict=True))
    first, second, third = draws[0]
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_masks_of_other_devices_are_made_there() -> None:
    keep = keep_mask(torch.Size([3, 5]), 0.5, torch.device("meta"))
    assert (keep.device.type, keep.dtype, keep.shape) == ("meta", torch.bool, (3, 5))


@every_probability
def test_dropout_keeps_the_mean_and_scales_what_it_keeps(drop_prob: float) -> None:
    x = torch.rand(N, dtype=torch.float64) + 1
    dropped = Dropout(drop_prob)(x)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], x[kept] / (1 - drop_prob))
    standard_error = (drop_prob / (1 - drop_prob) * x.square().mean().item() / N) ** 0.5
    assert dropped.mean().item() == pytest.approx(x.mean().item(), abs=5 * standard_error)


def test_the_gradient_is_the_mask_over_the_kept_share() -> None:
    x = torch.randn(301, dtype=torch.float64, requires_grad=True)
    dropped = Dropout(0.2)(x)
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, (dropped != 0).double() / 0.8)
    assert 0 < (x.grad == 0).sum() < 301


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_keeps_the_dtype(dtype: torch.dtype) -> None:
    assert Dropout(0.5)(torch.ones(5, dtype=dtype)).dtype == dtype


def test_dropout_does_not_depend_on_the_memory_layout() -> None:
    x = torch.randn(6, 7)
    results = []
    for copy in (x, x.T.contiguous().T):
        torch.manual_seed(5)
        results.append(Dropout(0.5)(copy))
    assert torch.equal(*results)


@pytest.mark.parametrize("dropout", [Dropout(0.5).eval(), Dropout(0.0)], ids=["evaluation", "p = 0"])
def test_nothing_is_dropped_and_no_random_number_drawn(dropout: Dropout) -> None:
    x, state = torch.randn(50), torch.get_rng_state()
    assert torch.equal(dropout(x), x)
    assert torch.equal(torch.get_rng_state(), state)
