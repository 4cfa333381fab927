"""SASRecM: one SASRec over the sum of the modality and ID embeddings, scored against that same sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy_reference as reference
import pytest
import torch
from tiny_catalogue import histories, make_config, make_dataset, packed_batch, pairs_of, randomise

from recbole_msm4sr.model.baselines.sasrecm import SASRecM


def make_model(**changes: Any) -> SASRecM:
    return randomise(SASRecM(make_config(**changes), make_dataset()))


def expected_scores(model: SASRecM, prefixes: list[list[int]], modalities: list[str]) -> np.ndarray:
    state = model.state_dict()
    table = reference.encode_items(make_dataset(), state, modalities).sum(axis=0)
    table = table + reference.to_numpy(state)["item_embedding.weight"]
    weights = reference.to_numpy(state, "m2se.transformer.")
    return np.array([table @ reference.last_state(table[prefix], weights, 2, 1e-12) for prefix in prefixes])


@pytest.mark.parametrize("modalities", [["text", "image"], ["image"]])
def test_loss_is_the_cross_entropy_over_all_items(modalities: list[str]) -> None:
    model, batch = make_model(modalities=modalities), packed_batch()
    prefixes, targets = map(list, zip(*pairs_of(batch), strict=True))
    (loss,) = model.calculate_loss(batch)
    assert model.loss_names == ("ce",)
    expected = reference.cross_entropy(expected_scores(model, prefixes, modalities), targets)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-9)


@torch.no_grad()
def test_scores_are_products_of_states_and_summed_embeddings() -> None:
    model, prefixes = make_model().eval(), [[1, 2, 3], [5], [8, 6, 7, 9]]
    scores = model.full_sort_predict(histories(prefixes)).numpy()
    np.testing.assert_allclose(scores, expected_scores(model, prefixes, ["text", "image"]), rtol=1e-9, atol=1e-9)
