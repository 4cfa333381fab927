"""nip_loss (eq. 7-8) and cmcl_loss (eq. 9-10) against the equations written out, and their contract."""

from __future__ import annotations

import math

import numpy as np
import numpy_reference as reference
import pytest
import torch
from torch import Tensor

from recbole_msm4sr.model.losses import cmcl_loss, nip_loss

DISTINCT = [4, 9, 1, 7, 2]
REPEATED = [4, 9, 4, 7, 4]
ONE_ITEM = [3, 3, 3, 3, 3]


def vectors(n: int = 5, size: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """m̂, m̃ and z, far from unit length."""
    scale = torch.tensor([0.01, 30.0, 2.0, 0.3, 5.0], dtype=torch.float64)[:n, None]
    direct, crossed, items = (torch.randn(n, size, dtype=torch.float64) * scale.roll(shift) for shift in range(3))
    return direct, crossed, items


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("ids", [DISTINCT, REPEATED, ONE_ITEM])
def test_nip_is_equation_7(ids: list[int], temperature: float) -> None:
    direct, crossed, items = vectors()
    items = items[[ids.index(item) for item in ids]]  # equal ids have equal embeddings
    expected = reference.nip(direct.numpy(), crossed.numpy(), items.numpy(), ids, temperature)
    loss = nip_loss(direct, crossed, items, torch.tensor(ids), temperature)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("ids", [DISTINCT, REPEATED, ONE_ITEM])
def test_cmcl_is_equation_9(ids: list[int], temperature: float) -> None:
    direct, crossed, _ = vectors()
    expected = reference.cmcl(direct.numpy(), crossed.numpy(), ids, temperature)
    loss = cmcl_loss(direct, crossed, torch.tensor(ids), temperature)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-9, atol=1e-12)


def test_nip_of_orthogonal_targets_by_hand() -> None:
    eye = torch.eye(2, dtype=torch.float64)
    loss = nip_loss(eye, eye, eye, torch.tensor([1, 2]), 0.5)  # positives e^2, negatives e^0, twice each
    assert loss.item() == pytest.approx(math.log((math.exp(2) + 1) / math.exp(2)), abs=1e-12)


def test_cmcl_of_orthogonal_pairs_by_hand() -> None:
    eye = torch.eye(2, dtype=torch.float64)
    loss = cmcl_loss(eye, eye, torch.tensor([1, 2]), 0.5)  # one positive e^2, a negative e^0 in either view
    assert loss.item() == pytest.approx(math.log((math.exp(2) + 2) / math.exp(2)), abs=1e-12)


def test_masked_pairs_leave_the_denominator_instead_of_adding_exp_0() -> None:
    """With nothing but j's own item in the batch the fraction is 1."""
    direct, crossed, items = vectors()
    ids = torch.tensor(ONE_ITEM)
    assert nip_loss(direct, crossed, items[:1].expand(5, -1), ids, 0.07).item() == pytest.approx(0, abs=1e-12)
    assert cmcl_loss(direct, crossed, ids, 0.07).item() == pytest.approx(0, abs=1e-12)


def test_one_pair_has_nothing_to_tell_apart() -> None:
    direct, crossed, items = vectors(1)
    inputs = [tensor.requires_grad_() for tensor in (direct, crossed, items)]
    loss = nip_loss(*inputs, torch.tensor([4]), 0.07) + cmcl_loss(*inputs[:2], torch.tensor([4]), 0.07)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert all(torch.isfinite(tensor.grad).all() for tensor in inputs)


def test_both_losses_ignore_the_length_of_vectors() -> None:
    direct, crossed, items = vectors()
    ids = torch.tensor(REPEATED)
    scaled = (direct * 1e3, crossed * 1e-3, items * torch.rand(5, 1, dtype=torch.float64).add(0.1))
    torch.testing.assert_close(nip_loss(*scaled, ids, 0.07), nip_loss(direct, crossed, items, ids, 0.07))
    torch.testing.assert_close(cmcl_loss(*scaled[:2], ids, 0.07), cmcl_loss(direct, crossed, ids, 0.07))


def test_cmcl_is_symmetric_in_its_views() -> None:
    direct, crossed, _ = vectors()
    ids = torch.tensor(REPEATED)
    torch.testing.assert_close(cmcl_loss(direct, crossed, ids, 0.07), cmcl_loss(crossed, direct, ids, 0.07))


def test_both_losses_are_means_over_the_pairs() -> None:
    """Every pair of an orthogonal batch has the same loss, so the mean is the loss of any one of them."""
    for n in (2, 3, 5):
        eye, ids = torch.eye(n, dtype=torch.float64), torch.arange(n)
        assert nip_loss(eye, eye, eye, ids, 1.0).item() == pytest.approx(math.log(1 + (n - 1) * math.exp(-1)))
        assert cmcl_loss(eye, eye, ids, 1.0).item() == pytest.approx(math.log(1 + 2 * (n - 1) * math.exp(-1)))


@pytest.mark.parametrize("temperature", [0.01, 0.001])
def test_large_logits_overflow_neither_loss_nor_gradient(temperature: float) -> None:
    """exp(1 / 0.01) is beyond float32; opposite vectors give the logits of both signs."""
    direct, crossed, items = (tensor.float() for tensor in vectors())
    crossed = -direct
    ids = torch.tensor(REPEATED)
    inputs = [tensor.clone().requires_grad_() for tensor in (direct, crossed, items)]
    nip, cmcl = nip_loss(*inputs, ids, temperature), cmcl_loss(*inputs[:2], ids, temperature)
    (nip + cmcl).backward()
    doubles = [tensor.detach().double() for tensor in inputs]
    np.testing.assert_allclose(nip.item(), nip_loss(*doubles, ids, temperature).item(), rtol=1e-4)
    np.testing.assert_allclose(cmcl.item(), cmcl_loss(*doubles[:2], ids, temperature).item(), rtol=1e-4)
    assert all(torch.isfinite(tensor.grad).all() for tensor in inputs)


def test_temperature_of_a_hundredth_equals_the_equations() -> None:
    direct, crossed, items = vectors()
    args = direct.numpy(), crossed.numpy()
    ids = torch.tensor(DISTINCT)
    np.testing.assert_allclose(
        nip_loss(direct, crossed, items, ids, 0.01).item(),
        reference.nip(*args, items.numpy(), DISTINCT, 0.01),
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        cmcl_loss(direct, crossed, ids, 0.01).item(), reference.cmcl(*args, DISTINCT, 0.01), rtol=1e-9
    )


@pytest.mark.parametrize("ids", [DISTINCT, REPEATED])
def test_gradients_are_those_of_the_losses(ids: list[int]) -> None:
    item_ids = torch.tensor(ids)
    inputs = [torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda m, c, z: nip_loss(m, c, z, item_ids, 0.5), inputs)
    assert torch.autograd.gradcheck(lambda m, c: cmcl_loss(m, c, item_ids, 0.5), inputs[:2])


# -- targets without the modality --------------------------------------------------------------------------------------
@pytest.mark.parametrize("ids", [DISTINCT, REPEATED])
def test_pairs_whose_target_lacks_the_modality_leave_both_losses(ids: list[int]) -> None:
    direct, crossed, items = vectors()
    z = items[[ids.index(item) for item in ids]]
    has = torch.tensor([ids.index(item) not in (1, 4) for item in ids])
    own = has.nonzero().squeeze(1)
    kept, views = [ids[j] for j in own], (direct[own].numpy(), crossed[own].numpy())
    nip = nip_loss(direct, crossed, z, torch.tensor(ids), 0.07, has_content=has)
    cmcl = cmcl_loss(direct, crossed, torch.tensor(ids), 0.07, has_content=has)
    assert nip.item() == pytest.approx(reference.nip(*views, z[own].numpy(), kept, 0.07), rel=1e-9)
    assert cmcl.item() == pytest.approx(reference.cmcl(*views, kept, 0.07), rel=1e-9)


def test_targets_without_pictures_add_nothing_to_the_loss() -> None:
    """Sequences that point exactly at their targets: the vector that 32 of 64 share would leave a loss of 1.73."""
    z = torch.eye(64, dtype=torch.float64)
    z[32:] = z[32]
    ids, has = torch.arange(64), torch.arange(64) < 32
    assert nip_loss(z, z, z, ids, 0.01).item() == pytest.approx(0.5 * math.log(32), rel=1e-9)
    assert nip_loss(z, z, z, ids, 0.01, has_content=has).item() == pytest.approx(0, abs=1e-9)


def test_twins_of_equal_content_are_not_each_others_negatives() -> None:
    z = torch.eye(4, dtype=torch.float64)[[0, 1, 1, 2]]
    assert nip_loss(z, z, z, torch.tensor([5, 6, 7, 8]), 0.01).item() == pytest.approx(0.5 * math.log(2))
    assert nip_loss(z, z, z, torch.tensor([5, 6, 6, 8]), 0.01).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_nothing_is_missing_both_losses_and_their_gradients_are_the_same_bits(dtype: torch.dtype) -> None:
    ids, everything = torch.tensor(REPEATED), torch.ones(5, dtype=torch.bool)
    inputs = [tensor.to(dtype).requires_grad_() for tensor in vectors()]
    results = []
    for has in (None, everything):
        losses = nip_loss(*inputs, ids, 0.07, has), cmcl_loss(*inputs[:2], ids, 0.07, has_content=has)
        results.append((*losses, *torch.autograd.grad(sum(losses), inputs)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_batch_without_any_content_has_a_loss_and_gradients_of_zero() -> None:
    inputs = [tensor.requires_grad_() for tensor in vectors()]
    ids, nothing = torch.tensor(DISTINCT), torch.zeros(5, dtype=torch.bool)
    loss = nip_loss(*inputs, ids, 0.07, nothing) + cmcl_loss(*inputs[:2], ids, 0.07, has_content=nothing)
    loss.backward()
    assert loss.item() == 0
    assert all((tensor.grad == 0).all() for tensor in inputs)
