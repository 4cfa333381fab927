"""DualGNN: propagation in each modality, fusion by user, and users who share items, node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy_reference as reference
import pytest
import torch
from tiny_catalogue import N_ITEMS, make_config, means_of, randomise
from tiny_interactions import ITEMS_OF, N_USERS, PAIRS, TRIPLES, make_training_part, triples

from recbole_msm4sr.model.baselines.dualgnn import DualGNN

SIZE = 4
both_or_one = pytest.mark.parametrize("modalities", [["text", "image"], ["image"]], ids="-".join)


def make_model(pairs: list[tuple[int, int]] = PAIRS, **changes: Any) -> DualGNN:
    return randomise(DualGNN(make_config("DualGNN", embedding_size=SIZE, **changes), make_training_part(pairs)))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(x @ x)


def propagated(model: DualGNN, k: int, modality: str, n_layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Users and items in one modality, summed over layers, an edge at a time."""
    state = reference.to_numpy(model.state_dict())
    w1, b1, w2, b2 = (state[f"encoders.{k}.layers.{name}"] for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    hidden = means_of(modality) @ w1.T + b1
    items = np.array([unit(row) for row in np.where(hidden > 0, hidden, 0.01 * hidden) @ w2.T + b2])
    users = np.array([unit(row) for row in state[f"preferences.{k}.weight"]])
    n_users_of = {item: sum(item in own for own in ITEMS_OF.values()) for item in range(N_ITEMS)}
    sums = users.copy(), items.copy()
    for _ in range(n_layers):
        new_users, new_items = np.zeros_like(users), np.zeros_like(items)
        for user, own in ITEMS_OF.items():
            for item in own:
                weight = 1 / np.sqrt(len(own) * n_users_of[item])
                new_users[user] += weight * items[item]
                new_items[item] += weight * users[user]
        users, items = new_users, new_items
        sums = sums[0] + users, sums[1] + items
    return sums


def vectors_of(model: DualGNN, modalities: list[str], n_layers: int, n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    parts = [propagated(model, k, modality, n_layers) for k, modality in enumerate(modalities)]
    weights = reference.to_numpy(model.state_dict())["modality_weights.weight"]
    users = sum(weights[:, k : k + 1] * part[0] for k, part in enumerate(parts))
    shared = np.zeros_like(users)
    for user, own in ITEMS_OF.items():
        common = {other: len(set(own) & set(items)) for other, items in ITEMS_OF.items() if other != user}
        nearest = sorted((other for other in common if common[other]), key=lambda other: (-common[other], other))
        nearest = nearest[:n_neighbors]
        if nearest:
            shares = reference.softmax(np.array([float(common[other]) for other in nearest]))
            shared[user] = shares @ users[nearest]
    return users + shared, sum(part[1] for part in parts)


@torch.no_grad()
@both_or_one
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("n_neighbors", [1, 2, 40])
def test_vectors_are_fused_and_shared_preferences(modalities: list[str], n_layers: int, n_neighbors: int) -> None:
    model = make_model(modalities=modalities, n_layers=n_layers, n_neighbors=n_neighbors)
    expected = vectors_of(model, modalities, n_layers, n_neighbors)
    for found, vectors in zip(model(), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), vectors, rtol=1e-5, atol=1e-6)  # fixed weights are float32


@torch.no_grad()
def test_losses_are_bpr_and_the_mean_squares_of_preferences_and_modality_weights() -> None:
    model = make_model(reg_weight=3.0)
    users, items = (part.numpy() for part in model())
    bpr = np.mean([np.log1p(np.exp(users[u] @ (items[j] - items[i]))) for u, i, j in TRIPLES])
    state = reference.to_numpy(model.state_dict())
    penalty = np.mean(state["modality_weights.weight"][1:] ** 2)
    for k in (0, 1):
        penalty += np.mean([state[f"preferences.{k}.weight"][user] ** 2 for user, *_ in TRIPLES])
    np.testing.assert_allclose([loss.item() for loss in model.calculate_loss(triples())], [bpr, 3.0 * penalty])


def test_modality_weights_start_about_equal() -> None:
    model = DualGNN(make_config("DualGNN"), make_training_part())
    weights = model.modality_weights.weight
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(N_USERS))
    assert (weights > 0).all()


@torch.no_grad()
def test_items_without_a_modality_share_one_learned_vector() -> None:
    encoder = make_model().encoders[0]
    found = encoder()
    torch.testing.assert_close(found[3], found[8])
    assert not torch.allclose(found[3], found[1])
    assert (found[3] != 0).any()


def test_users_may_share_nothing_at_all() -> None:
    model = make_model([(user, user) for user in range(1, N_USERS)])
    loss, _ = model.calculate_loss(triples())
    loss.backward()
    assert torch.isfinite(model.preferences[0].weight.grad).all()
    assert model.preferences[0].weight.grad.abs().max() > 0


def test_a_user_who_shares_no_item_is_itself() -> None:
    pairs = [(user, item) for user, item in PAIRS if user != 3] + [(3, 9)]
    model = make_model(pairs)
    with torch.no_grad():
        users, _ = model()
        model.neighbor_weights.zero_()
        own, _ = model()
    torch.testing.assert_close(users[3], own[3])
    assert not torch.allclose(users[1], own[1])
