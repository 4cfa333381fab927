"""Rows, means and losses over two processes equal those of one process that has all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from two_processes import in_two_processes

from recbole_msm4sr.core.distributed import own_share, rank
from recbole_msm4sr.core.gather import gather_rows, global_mean, sum_over_ranks
from recbole_msm4sr.model.losses import cmcl_loss, nip_loss

ROWS = {"uneven": (3, 2), "one without rows": (4, 0)}
IDS = [4, 9, 4, 7, 9]
TAU = 0.5


def rows(n: int, seed: int) -> Tensor:
    return torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def everything(counts: tuple[int, int]) -> dict[str, Tensor]:
    """What both processes have together, in the order of the ranks."""
    total = sum(counts)
    return {
        "ids": torch.tensor(IDS[:total]),
        **{name: rows(total, seed) for seed, name in enumerate(("direct", "crossed", "items", "weight"))},
    }


def own(counts: tuple[int, int]) -> dict[str, Tensor]:
    begin = 0 if rank() == 0 else counts[0]
    return {name: values[begin : begin + counts[rank()]] for name, values in everything(counts).items()}


def loss_and_gradients(loss: Tensor, leaves: list[Tensor]) -> dict[str, Any]:
    loss.backward()
    return {"loss": loss.item(), "gradients": [leaf.grad.numpy() for leaf in leaves]}


def measure(counts: tuple[int, int]) -> dict[str, Any]:
    """A process's gathered rows and losses, with the gradients of its own rows."""
    part = own(counts)
    out: dict[str, Any] = {}
    leaf = part["items"].clone().requires_grad_()
    ids, gathered = gather_rows(part["ids"], leaf)
    factor = float(rank() + 1)
    out["gather"] = loss_and_gradients((factor * gathered**2).sum(), [leaf])
    out["gathered ids"], out["gathered"] = ids.tolist(), gathered.detach().numpy()

    leaf = part["direct"].clone().requires_grad_()
    out["mean"] = loss_and_gradients(global_mean((leaf**2).sum(), len(leaf)), [leaf])

    leaves = [part[name].clone().requires_grad_() for name in ("direct", "crossed", "items")]
    ids, items = gather_rows(part["ids"], leaves[2])
    out["nip"] = loss_and_gradients(nip_loss(leaves[0], leaves[1], items, ids, TAU), leaves)

    leaves = [part[name].clone().requires_grad_() for name in ("direct", "crossed")]
    ids, direct, crossed = gather_rows(part["ids"], *leaves)
    out["cmcl"] = loss_and_gradients(cmcl_loss(direct, crossed, ids, TAU, len(leaves[0])), leaves)

    out["sum"] = sum_over_ranks(torch.tensor([rank(), 5])).tolist()
    out["share"] = list(own_share(list(range(7))))
    return out


def measure_both() -> dict[str, dict[str, Any]]:
    return {name: measure(counts) for name, counts in ROWS.items()}


@pytest.fixture(scope="module")
def processes() -> list[dict[str, dict[str, Any]]]:
    return in_two_processes(measure_both)


@pytest.mark.parametrize("name", ROWS)
def test_gathered_rows_are_the_own_rows_and_then_the_others(
    processes: list[dict[str, dict[str, Any]]], name: str
) -> None:
    counts, whole = ROWS[name], everything(ROWS[name])
    first, second = torch.arange(sum(counts)).split(counts)
    for process, order in zip(processes, ([*first, *second], [*second, *first]), strict=True):
        index = torch.tensor(order)
        assert process[name]["gathered ids"] == whole["ids"][index].tolist()
        np.testing.assert_array_equal(process[name]["gathered"], whole["items"][index])


@pytest.mark.parametrize("name", ROWS)
def test_the_gradient_of_a_gathered_row_is_summed_over_the_processes(
    processes: list[dict[str, dict[str, Any]]], name: str
) -> None:
    """Rank 0 uses every row with factor 1 and rank 1 with factor 2."""
    gradient = np.concatenate([process[name]["gather"]["gradients"][0] for process in processes])
    np.testing.assert_allclose(gradient, (1 + 2) * 2 * everything(ROWS[name])["items"], rtol=1e-12)


def losses_of_one_process(counts: tuple[int, int]) -> dict[str, dict[str, Any]]:
    whole = everything(counts)

    def leaves(*names: str) -> list[Tensor]:
        return [whole[name].clone().requires_grad_() for name in names]

    direct = leaves("direct")
    nip, cmcl = leaves("direct", "crossed", "items"), leaves("direct", "crossed")
    return {
        "mean": loss_and_gradients((direct[0] ** 2).sum(dim=1).mean(), direct),
        "nip": loss_and_gradients(nip_loss(*nip, whole["ids"], TAU), nip),
        "cmcl": loss_and_gradients(cmcl_loss(*cmcl, whole["ids"], TAU), cmcl),
    }


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("loss", ["mean", "nip", "cmcl"])
def test_averaged_over_the_processes_losses_and_gradients_are_those_of_one_process(
    processes: list[dict[str, dict[str, Any]]], name: str, loss: str
) -> None:
    expected = losses_of_one_process(ROWS[name])[loss]
    found = [process[name][loss] for process in processes]
    assert np.mean([process["loss"] for process in found]) == pytest.approx(expected["loss"], rel=1e-12)
    for k, gradient in enumerate(expected["gradients"]):
        averaged = np.concatenate([process["gradients"][k] for process in found]) / 2
        np.testing.assert_allclose(averaged, gradient, rtol=1e-9, atol=1e-12)


def test_sums_are_over_all_processes_and_shares_cover_everything_once(
    processes: list[dict[str, dict[str, Any]]],
) -> None:
    both = [process["uneven"] for process in processes]
    assert [process["sum"] for process in both] == [[1, 10]] * 2
    assert sorted(both[0]["share"] + both[1]["share"]) == list(range(7))


def test_one_process_alone_needs_no_group() -> None:
    values = rows(3, 0)
    assert gather_rows(values)[0] is values
    assert global_mean(values.sum(), 3).item() == pytest.approx(values.sum().item() / 3, rel=1e-15)
    assert sum_over_ranks(values) is values
    assert own_share([1, 2]) == [1, 2]
