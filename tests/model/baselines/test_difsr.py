"""DIF-SR: scores of item IDs alone, attention guided by side information, predicted attributes."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy_reference as reference
import pytest
import torch
from tiny_catalogue import (
    VALUES_OF_ITEM,
    histories,
    make_config,
    make_dataset,
    packed_batch,
    pairs_of,
    randomise,
)

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.model.baselines.difsr import DIFSR

PREFIXES = [[1, 2, 3], [5], [8, 6, 7, 9, 1, 1, 4]]
BOTH = {"selected_features": ["kind", "brand"], "modalities": ["text"]}
FUSIONS = ["sum", "concat", "gate"]


def make_model(**changes: Any) -> DIFSR:
    config = make_config("DIFSR", **{"selected_features": ["kind"], **changes})
    return randomise(DIFSR(config, make_dataset()))


def sides_of(model: DIFSR, changes: dict[str, Any]) -> list[np.ndarray]:
    """Every side embedding of all items, item by item."""
    state, sides = reference.to_numpy(model.state_dict()), []
    for i, name in enumerate(changes.get("selected_features", ["kind"])):
        embedding = state[f"attributes.{i}.embedding.weight"]
        rows = [[v for v in np.atleast_1d(values) if v] for values in VALUES_OF_ITEM[name]]
        sides.append(np.array([embedding[row].sum(axis=0) for row in rows]))
    for i, name in enumerate(changes.get("modalities", [])):
        values, offsets = make_dataset().item_features[name]
        rows = [values[a:b].float().mean(dim=0) if b > a else torch.zeros(6) for a, b in pairwise(offsets)]
        weight, bias = (state[f"projections.{i}.projection.{kind}"] for kind in ("weight", "bias"))
        sides.append(torch.stack(rows).double().numpy() @ weight.T + bias)
    return sides


def last_states(model: DIFSR, changes: dict[str, Any], prefixes: list[list[int]], fusion_type: str) -> np.ndarray:
    items, sides = model.item_embedding.weight.detach().numpy(), sides_of(model, changes)
    weights = reference.to_numpy(model.state_dict(), "transformer.")
    return np.array(
        [
            reference.decoupled_states(items[prefix], [side[prefix] for side in sides], weights, 2, fusion_type)[-1]
            for prefix in prefixes
        ]
    )


@torch.no_grad()
@pytest.mark.parametrize("changes", [BOTH, {}, {"selected_features": [], "modalities": ["text", "image"]}])
@pytest.mark.parametrize("fusion_type", FUSIONS)
def test_scores_are_products_of_states_and_id_embeddings(changes: dict[str, Any], fusion_type: str) -> None:
    model = make_model(**changes, fusion_type=fusion_type).eval()
    expected = last_states(model, changes, PREFIXES, fusion_type) @ model.item_embedding.weight.numpy().T
    scores = model.full_sort_predict(histories(PREFIXES)).numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-7)  # means of features are float32


def test_losses_are_the_cross_entropy_over_items_and_that_of_every_attributes_values() -> None:
    changes = {"selected_features": ["kind", "brand"], "attribute_weight": 3.0}
    model, batch = make_model(**changes), packed_batch()
    prefixes, targets = map(list, zip(*pairs_of(batch), strict=True))
    states = last_states(model, changes, prefixes, "gate")
    assert model.loss_names == ("ce", "kind", "brand")
    expected = [reference.cross_entropy(states @ model.item_embedding.weight.detach().numpy().T, targets)]
    for i, (name, n_values) in enumerate((("kind", 4), ("brand", 3))):
        weight, bias = reference.to_numpy(model.state_dict(), f"predictors.{i}.").values()
        total = 0.0
        for state, target in zip(states, targets, strict=True):
            for value in range(1, n_values + 1):
                probability = 1 / (1 + math.exp(-(weight[value - 1] @ state + bias[value - 1])))
                has = value in np.atleast_1d(VALUES_OF_ITEM[name][target])
                total -= math.log(probability if has else 1 - probability)
        expected.append(3.0 * total / (len(targets) * n_values))
    losses = model.calculate_loss(batch)
    np.testing.assert_allclose([loss.item() for loss in losses], expected, rtol=1e-8)


def test_without_their_weight_there_are_no_predictors() -> None:
    model = make_model(attribute_weight=0.0)
    assert model.loss_names == ("ce",)
    assert len(model.calculate_loss(packed_batch())) == 1
    assert not [name for name in model.state_dict() if name.startswith("predictors")]


def test_features_of_a_store_are_not_predicted() -> None:
    assert make_model(**BOTH).loss_names == ("ce", "kind", "brand")
    assert make_model(selected_features=[], modalities=["image"]).loss_names == ("ce",)


@pytest.mark.parametrize(
    ("column", "words"),
    [("price", "price is float"), ("unused", "no item has a value of unused")],
)
def test_a_column_that_cannot_be_embedded_is_refused(column: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_model(selected_features=[column])
