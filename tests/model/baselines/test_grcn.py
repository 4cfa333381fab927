"""GRCN: routing, affinities and refined IDs, node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy_reference as reference
import pytest
import torch
from tiny_catalogue import N_ITEMS, make_config, means_of, randomise
from tiny_interactions import ITEMS_OF, N_USERS, TRIPLES, make_training_part, triples

from recbole_msm4sr.model.baselines.grcn import GRCN

SIZE = 4
USERS_OF = {item: [user for user, items in ITEMS_OF.items() if item in items] for item in range(N_ITEMS)}


def make_model(**changes: Any) -> GRCN:
    return randomise(GRCN(make_config("GRCN", embedding_size=SIZE, **changes), make_training_part()))


def unit(x: np.ndarray) -> np.ndarray:
    return x / max(np.sqrt(x @ x), 1e-12)


def content_of(
    model: GRCN, k: int, modality: str
) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int], float], dict[tuple[int, int], float]]:
    """Users, items, and affinities by (user, item): what the user takes from the item, and the item from the user."""
    state = reference.to_numpy(model.state_dict(), f"contents.{k}.")
    mapped = means_of(modality) @ state["projection.projection.weight"].T + state["projection.projection.bias"]
    items = np.array([unit(np.where(row > 0, row, 0.01 * row)) for row in mapped])
    users = np.array([unit(row) for row in state["preference.weight"]])
    for _ in range(3):
        for user, own in ITEMS_OF.items():
            weights = reference.softmax(items[own] @ users[user])
            users[user] = unit(users[user] + weights @ items[own])
    taken_by_user, taken_by_item = {}, {}
    all_users, all_items = users.copy(), items.copy()
    for user, own in ITEMS_OF.items():
        weights = reference.softmax(items[own] @ users[user])
        all_users[user] += weights @ items[own]
        taken_by_user |= {(user, item): weight for item, weight in zip(own, weights, strict=True)}
    for item, own in USERS_OF.items():
        if own:
            weights = reference.softmax(users[own] @ items[item])
            all_items[item] += weights @ users[own]
            taken_by_item |= {(user, item): weight for user, weight in zip(own, weights, strict=True)}
    return all_users, all_items, taken_by_user, taken_by_item


def vectors_of(model: GRCN, pruning: str, modalities: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The whole model, an edge at a time."""
    state = reference.to_numpy(model.state_dict())
    contents = [content_of(model, k, modality) for k, modality in enumerate(modalities)]

    def edge_weight(side: int, edge: tuple[int, int]) -> float:
        user, item = edge
        sender = state["item_confidence.weight"][item] if side == 2 else state["user_confidence.weight"][user]
        return max(content[side][edge] * number for content, number in zip(contents, sender, strict=True))

    def kept(weight: float) -> float:
        return max(weight, 0.0) if pruning == "hard" else weight

    users = np.array([unit(row) for row in state["user_embedding.weight"]])
    items = np.array([unit(row) for row in state["item_embedding.weight"]])
    sums = users.copy(), items.copy()
    for _ in range(2):
        new_users, new_items = np.zeros_like(users), np.zeros_like(items)
        for user, own in ITEMS_OF.items():
            for item in own:
                new_users[user] += kept(edge_weight(2, (user, item))) * items[item]
                new_items[item] += kept(edge_weight(3, (user, item))) * users[user]
        users, items = new_users, new_items
        sums = sums[0] + users, sums[1] + items
    sides = [[sums[side], *(content[side] for content in contents)] for side in (0, 1)]
    return np.concatenate(sides[0], axis=1), np.concatenate(sides[1], axis=1)


@torch.no_grad()
@pytest.mark.parametrize("modalities", [["text", "image"], ["image"]], ids="-".join)
@pytest.mark.parametrize("pruning", ["soft", "hard"])
def test_vectors_are_refined_ids_and_contents(pruning: str, modalities: list[str]) -> None:
    model = make_model(pruning=pruning, modalities=modalities)
    for found, expected in zip(model(), vectors_of(model, pruning, modalities), strict=True):
        # without padding; means of features are float32
        np.testing.assert_allclose(found[1:].numpy(), expected[1:], rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_losses_are_bpr_and_the_mean_squares_of_what_a_batch_reads() -> None:
    model = make_model(reg_weight=3.0)
    users, items = (part.numpy() for part in model())
    bpr = np.mean([np.log1p(np.exp(users[u] @ (items[j] - items[i]))) for u, i, j in TRIPLES])
    state = reference.to_numpy(model.state_dict())
    penalty = np.mean([state["item_embedding.weight"][item] ** 2 for _, *pair in TRIPLES for item in pair])
    for name in ("user_embedding.weight", "contents.0.preference.weight", "contents.1.preference.weight"):
        penalty += np.mean([state[name][user] ** 2 for user, *_ in TRIPLES])
    np.testing.assert_allclose([loss.item() for loss in model.calculate_loss(triples())], [bpr, 3.0 * penalty])


@torch.no_grad()
def test_items_without_a_modality_share_one_learned_content() -> None:
    model = make_model(n_routings=0)
    _, items = model()
    projection = model.contents[0].projection
    assert (projection.features[[3, 8]] == 0).all()
    shared = torch.nn.functional.normalize(torch.nn.functional.leaky_relu(projection.projection.bias), dim=0)
    torch.testing.assert_close(projection(torch.tensor([3, 8])), projection.projection.bias.expand(2, SIZE))
    model.graph = type(model.graph)(torch.tensor([1]), torch.tensor([1]), N_USERS, N_ITEMS)  # 3 and 8 have no user now
    _, items = model()
    torch.testing.assert_close(items[[3, 8], SIZE : 2 * SIZE], shared.expand(2, SIZE))


def test_hard_pruning_takes_nothing_through_edges_of_negative_weight() -> None:
    model = make_model(pruning="hard")
    with torch.no_grad():
        model.user_confidence.weight.fill_(-1.0)
        model.item_confidence.weight.fill_(-1.0)
        users, items = model()
    for found, embedding in ((users, model.user_embedding), (items, model.item_embedding)):
        torch.testing.assert_close(found[:, :SIZE], torch.nn.functional.normalize(embedding.weight))


def test_the_preference_of_a_user_moves_towards_its_items() -> None:
    model = make_model()
    with torch.no_grad():
        content = model.contents[0]
        cosines = []
        for content.n_routings in (0, 3):
            users, items, *_ = content(model.graph)
            cosines.append(torch.nn.functional.cosine_similarity(users[1], items[ITEMS_OF[1]].mean(dim=0), dim=0))
    assert cosines[1] > cosines[0]
