"""What every packed model promises: vectors whose product is the score, packed states, an item table kept right."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest
import torch
from recbole.data.interaction import Interaction
from tiny_catalogue import (
    ITEM,
    ITEM_SEQ,
    LENGTH,
    MAX_LENGTH,
    N_ITEMS,
    histories,
    make_config,
    make_dataset,
    packed_batch,
    randomise,
    without_augmentation,
)
from torch import Tensor

from recbole_msm4sr.config import registry
from recbole_msm4sr.model.base import PackedSequentialRecommender

PREFIXES = [[1, 2, 3], [5], [8, 6, 7, 9, 1, 1, 4]]


class Case(NamedTuple):
    """A model and the settings that differ from its own."""

    model: str
    changes: dict[str, Any]

    def make(self, **more: Any) -> Any:
        """The model with random weights, in float64, and without augmentation; every item is once a target."""
        config = make_config(self.model, **without_augmentation(), temperature=0.5, corruption_prob=0.0)
        config.update(self.changes | more)
        dataset = make_dataset()
        dataset.inter_feat = {ITEM: torch.arange(N_ITEMS)}
        return randomise(registry.find(self.model).model_class(config, dataset))


CASES = [
    Case("MSM4SRPretrain", {}),
    Case("MSM4SR", {}),
    Case("MSM4SR", {"similarity": "cosine"}),
    Case("MSM4SR", {"training": "e2e"}),
    Case("SASRecM", {}),
    Case("UniSRecPretrain", {}),
    Case("UniSRec", {}),
    Case("UniSRec", {"train_stage": "inductive_ft", "modalities": ["text", "image"]}),
    Case("DIFSR", {"selected_features": ["kind", "brand"], "modalities": ["text"]}),
    Case("DIFSR", {"selected_features": ["kind"], "fusion_type": "concat"}),
    Case("DIFSR", {"selected_features": [], "modalities": ["image"], "fusion_type": "sum"}),
    Case("MVRNN", {}),
    Case("MVRNN", {"view_combination": "concatenation", "hidden_structure": "separate"}),
    Case("MVRNN", {"view_combination": "addition", "modalities": ["image"]}),
]
all_models = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join([case.model, *map(str, case.changes)]))


def test_every_packed_model_of_ours_is_held_to_the_contract() -> None:
    assert {case.model for case in CASES} == {name for name in registry.our_models() if registry.find(name).is_packed}


@torch.no_grad()
@all_models
def test_scores_are_inner_products_of_user_and_item_vectors(case: Case) -> None:
    model = case.make().eval()
    interaction = histories(PREFIXES)
    users, items = model.user_vectors(interaction), model.item_vectors()
    scores = model.full_sort_predict(interaction)
    assert users.shape == (3, items.size(1))
    assert scores.shape == (3, N_ITEMS)
    torch.testing.assert_close(scores, users @ items.T, rtol=1e-12, atol=1e-12)
    for item in range(1, N_ITEMS):
        interaction.update(Interaction({ITEM: torch.full((3,), item)}))
        torch.testing.assert_close(model.predict(interaction), scores[:, item], rtol=1e-9, atol=1e-9)


@torch.no_grad()
@all_models
def test_packed_states_are_those_of_the_prefixes(case: Case) -> None:
    """In float32, as trained: the state at position t is the last state of the prefix of t + 1 items."""
    model = case.make().float().eval()
    batch = packed_batch()
    states = model.encode(model.item_table(), batch[ITEM_SEQ])
    for row, length in enumerate(batch[LENGTH].tolist()):
        prefixes = [batch[ITEM_SEQ][row, : time + 1].tolist() for time in range(length)]
        packed = model.vectors_of_states(states[:, row, :length])
        torch.testing.assert_close(packed, model.user_vectors(histories(prefixes)), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@all_models
def test_the_width_of_padding_changes_no_score(case: Case) -> None:
    model = case.make().eval()
    short = [[1, 2, 3], [5]]
    narrow, wide = (model.full_sort_predict(histories(short, width)) for width in (3, MAX_LENGTH))
    torch.testing.assert_close(narrow, wide, rtol=1e-9, atol=1e-9)


@torch.no_grad()
@all_models
def test_every_history_of_a_large_batch_gets_its_own_vector(case: Case) -> None:
    """Whatever order and portions histories are encoded in: 1,100 of mixed lengths equal their parts."""
    model = case.make().eval()
    lengths = torch.randint(1, MAX_LENGTH + 1, (1100,)).tolist()
    prefixes = [torch.randint(1, N_ITEMS, (length,)).tolist() for length in lengths]
    together = model.user_vectors(histories(prefixes))
    by_prefix = {tuple(p): v for p, v in zip(prefixes, together, strict=True)}
    for length in range(1, MAX_LENGTH + 1):
        same = [prefix for prefix in by_prefix if len(prefix) == length][:20]
        alone = model.user_vectors(histories([list(prefix) for prefix in same], width=length))
        torch.testing.assert_close(torch.stack([by_prefix[p] for p in same]), alone, rtol=1e-9, atol=1e-9)


@torch.no_grad()
@all_models
def test_item_table_is_built_once_per_evaluation(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model = case.make().eval()
    calls = spy_on_item_table(monkeypatch, model)
    for _ in range(3):
        model.full_sort_predict(histories(PREFIXES))
    model.item_vectors()
    assert calls == [None]
    model.train()
    model.eval()
    model.full_sort_predict(histories(PREFIXES))
    assert len(calls) == 2


@torch.no_grad()
@all_models
def test_item_table_follows_training_and_loaded_weights(case: Case) -> None:
    model, other = case.make().eval(), case.make().eval()
    interaction = histories(PREFIXES)
    stale = model.full_sort_predict(interaction)
    expected = other.full_sort_predict(interaction)
    model.load_state_dict(other.state_dict())
    torch.testing.assert_close(model.full_sort_predict(interaction), expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(expected, stale)
    model.train()
    for parameter in model.parameters():
        parameter.mul_(0.5)
    model.eval()
    fresh = case.make().eval()
    fresh.load_state_dict(model.state_dict())
    scores = model.full_sort_predict(interaction)
    torch.testing.assert_close(scores, fresh.full_sort_predict(interaction), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(scores, expected)


@all_models
def test_every_weight_learns_except_what_a_softmax_cancels(case: Case) -> None:
    """b1 and b2 of eq. 3 ask for no gradient; a key's bias adds the same to all scores that are summed."""
    model = case.make()
    sum(model.calculate_loss(packed_batch())).backward()
    for name, parameter in model.named_parameters():
        if name.endswith(("attention.w1.bias", "attention.w2.bias")):
            assert not parameter.requires_grad, name
        elif case.changes.get("fusion_type") == "sum" and re.search(r"\.keys\.\d+\.bias", name):
            assert parameter.grad.abs().max() < 1e-10, name
        else:
            assert parameter.grad.abs().max() > 1e-9, name
    if getattr(model, "item_embedding", None) is not None:
        gradient = model.item_embedding.weight.grad
        assert (gradient[0] == 0).all()  # padding is not an item
        assert (gradient[1:].abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("case", [case for case in CASES if "Pretrain" not in case.model], ids=str)
def test_enough_negatives_make_it_the_full_softmax(case: Case) -> None:
    """With every item certain to be drawn, Q is 1 and all losses and gradients are those of eq. 13."""
    full = case.make().eval()
    sampled = case.make(loss_type="sampled", n_negatives=4000, negative_distribution="uniform").eval()
    sampled.load_state_dict(full.state_dict())
    expected, losses = full.calculate_loss(packed_batch()), sampled.calculate_loss(packed_batch())
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)
    sum(expected).backward()
    sum(losses).backward()
    for (name, ours), reference in zip(sampled.named_parameters(), full.parameters(), strict=True):
        if reference.grad is not None:
            gradient = ours.grad.to_dense() if ours.grad.is_sparse else ours.grad
            torch.testing.assert_close(gradient, reference.grad, rtol=1e-5, atol=1e-7, msg=name)


@all_models
def test_state_dict_holds_no_features(case: Case) -> None:
    model = case.make()
    dataset = make_dataset()
    tensors = [tensor for pair in dataset.item_features.values() for tensor in pair]
    sizes = {tuple(tensor.shape) for tensor in [*tensors, *dataset.get_item_feature().values()]}
    state = model.state_dict()
    assert not [name for name, tensor in state.items() if tuple(tensor.shape) in sizes]
    assert not [name for name in state if {"values", "offsets", "features"} & set(name.split("."))]
    of_the_catalogue = [name for name, tensor in state.items() if len(tensor) == N_ITEMS]
    assert of_the_catalogue == [name for name in state if name == "item_embedding.weight"]


def spy_on_item_table(monkeypatch: pytest.MonkeyPatch, model: PackedSequentialRecommender) -> list[Tensor | None]:
    """Record the ids of every call of ``model.item_table``."""
    calls: list[Tensor | None] = []
    original = model.item_table

    def item_table(item_ids: Tensor | None = None) -> Tensor:
        calls.append(item_ids)
        return original(item_ids)

    monkeypatch.setattr(model, "item_table", item_table)
    return calls
