"""What every general model of ours promises: inner products, made once an evaluation; training pairs in any order."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from recbole.data.interaction import Interaction
from tiny_catalogue import ITEM, N_ITEMS, make_config, make_dataset, randomise
from tiny_interactions import PAIRS, make_training_part, of_users, triples
from torch import Tensor

from recbole_msm4sr.config import registry

USERS = [3, 1, 4, 1]


class Case(NamedTuple):
    """A model and the settings that differ from its own."""

    model: str
    changes: dict[str, Any]

    def make(self, pairs: list[tuple[int, int]] = PAIRS) -> Any:
        """The model with random weights, in float64."""
        config = make_config(self.model, embedding_size=4, **self.changes)
        return randomise(registry.find(self.model).model_class(config, make_training_part(pairs)))


CASES = [
    Case("GRCN", {}),
    Case("GRCN", {"pruning": "hard", "modalities": ["image"]}),
    Case("DualGNN", {}),
    Case("DualGNN", {"n_neighbors": 1, "modalities": ["text"]}),
    Case("CLCRec", {}),
    Case("CLCRec", {"modalities": ["text"]}),
]
GRAPH_CASES = [case for case in CASES if case.model != "CLCRec"]
all_models = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join([case.model, *map(str, case.changes)]))


def vectors(model: Any) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return model.user_vectors(of_users(list(range(6)))), model.item_vectors()


def test_every_general_model_of_ours_is_held_to_the_contract() -> None:
    ours = {name for name in registry.our_models() if not registry.find(name).is_packed}
    assert {case.model for case in CASES} == ours


@torch.no_grad()
@all_models
def test_scores_are_inner_products_of_user_and_item_vectors(case: Case) -> None:
    model = case.make().eval()
    interaction = of_users(USERS)
    users, items = model.user_vectors(interaction), model.item_vectors()
    scores = model.full_sort_predict(interaction)
    assert scores.shape == (4, N_ITEMS)
    assert torch.isfinite(scores).all()  # of items without users or features too
    torch.testing.assert_close(scores, users @ items.T, rtol=1e-12, atol=1e-12)
    for item in range(1, N_ITEMS):
        interaction.update(Interaction({ITEM: torch.full((4,), item)}))
        torch.testing.assert_close(model.predict(interaction), scores[:, item], rtol=1e-9, atol=1e-9)


@torch.no_grad()
@all_models
def test_vectors_are_made_once_an_evaluation_and_follow_the_weights(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = case.make().eval(), case.make().eval()
    calls = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda: calls.append(None) or forward())
    stale, *_ = [model.full_sort_predict(of_users(USERS)) for _ in range(3)]
    assert len(calls) == 1
    expected = other.full_sort_predict(of_users(USERS))
    model.load_state_dict(other.state_dict())
    torch.testing.assert_close(model.full_sort_predict(of_users(USERS)), expected, rtol=1e-12, atol=1e-12)
    assert len(calls) == 2
    assert not torch.allclose(expected, stale)


@all_models
def test_the_order_of_interactions_and_their_repetition_change_nothing(case: Case) -> None:
    model, other = case.make().eval(), case.make([*reversed(PAIRS), *PAIRS[:3]]).eval()
    other.load_state_dict(model.state_dict())
    for expected, found in zip(vectors(model), vectors(other), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", GRAPH_CASES, ids=lambda case: case.model)
def test_an_interaction_less_is_another_graph(case: Case) -> None:
    """Or the graph would not matter; what a model does not see, a test interaction for one, cannot leak."""
    model, other = case.make().eval(), case.make(PAIRS[1:]).eval()
    other.load_state_dict(model.state_dict())
    assert not torch.allclose(vectors(model)[0][1], vectors(other)[0][1])


@all_models
def test_every_weight_learns_but_those_of_padding(case: Case) -> None:
    model = case.make()
    sum(model.calculate_loss(triples())).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 1e-9, name
        if len(parameter) in (6, N_ITEMS):
            assert (parameter.grad[0] == 0).all(), name


@all_models
def test_padding_changes_no_other_vector(case: Case) -> None:
    model = case.make().eval()
    before = vectors(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if len(parameter) in (6, N_ITEMS):
                parameter[0] += 1.0
    model.train().eval()
    for found, expected in zip(vectors(model), before, strict=True):
        torch.testing.assert_close(found[1:], expected[1:], rtol=1e-12, atol=1e-12)


@all_models
def test_state_dict_holds_neither_features_nor_graph(case: Case) -> None:
    state = case.make().state_dict()
    sizes = {tuple(values.shape) for pair in make_dataset().item_features.values() for values in pair}
    assert not [name for name, tensor in state.items() if tuple(tensor.shape) in sizes]
    assert not [name for name in state if {"features", "rows", "columns"} & set(name.split("."))]
    assert all(tensor.is_floating_point() for tensor in state.values())


@all_models
def test_losses_are_named(case: Case) -> None:
    model = case.make()
    assert len(model.loss_names) == len(model.calculate_loss(triples()))
