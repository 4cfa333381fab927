"""Means of feature rows, and embeddings of attributes."""

from __future__ import annotations

import pytest
import torch
from tiny_catalogue import N_ITEMS, N_VALUES, VALUES_OF_ITEM, make_dataset, randomise

from recbole_msm4sr.model.blocks.side_information import AttributeEmbedding, FeatureProjection, mean_of_rows


def make_attribute(name: str) -> AttributeEmbedding:
    attribute = randomise(AttributeEmbedding(torch.tensor(VALUES_OF_ITEM[name]), N_VALUES[name], 4))
    with torch.no_grad():
        attribute.embedding.weight[0] = torch.nan  # padding's value is never read
    return attribute


@pytest.mark.parametrize("modality", ["text", "image"])
def test_an_item_has_the_mean_of_its_rows_and_zeros_without_any(modality: str) -> None:
    values, offsets = make_dataset().item_features[modality]
    means = mean_of_rows(values, offsets)
    assert means.dtype == torch.float32
    for item in range(N_ITEMS):
        rows = values[offsets[item] : offsets[item + 1]].float()
        torch.testing.assert_close(means[item], rows.mean(dim=0) if len(rows) else torch.zeros(values.size(1)))


def test_a_projection_of_some_items_is_those_rows_of_all() -> None:
    projection = FeatureProjection(mean_of_rows(*make_dataset().item_features["text"]), 4)
    items = torch.tensor([4, 1, 1])
    assert projection().shape == (N_ITEMS, 4)
    torch.testing.assert_close(projection(items), projection()[items])
    assert list(projection.state_dict()) == ["projection.weight", "projection.bias"]


@torch.no_grad()
@pytest.mark.parametrize("name", ["kind", "brand"])
def test_an_attribute_is_the_sum_of_the_embeddings_of_an_items_values(name: str) -> None:
    attribute = make_attribute(name)
    embeddings = attribute()
    for item, values in enumerate(VALUES_OF_ITEM[name]):
        own = [attribute.embedding.weight[v] for v in (values if isinstance(values, list) else [values]) if v]
        torch.testing.assert_close(embeddings[item], sum(own, torch.zeros(4, dtype=torch.float64)))
    items = torch.tensor([7, 3, 7])
    torch.testing.assert_close(attribute(items), embeddings[items])


def test_labels_are_the_values_that_items_have() -> None:
    kinds = make_attribute("kind").labels(torch.tensor([3, 4, 1]))
    assert kinds.tolist() == [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]
    assert make_attribute("brand").labels(torch.tensor([2])).tolist() == [[0.0, 0.0, 1.0]]
