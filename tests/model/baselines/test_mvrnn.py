"""MV-RNN: scores of joined views, the features restored from them, what training blanks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy_reference as reference
import pytest
import torch
from tiny_catalogue import (
    FEATURE_SIZE,
    N_ITEMS,
    ROWS_OF_ITEM,
    histories,
    make_config,
    make_dataset,
    means_of,
    packed_batch,
    pairs_of,
    randomise,
)

from recbole_msm4sr.model.baselines import mvrnn
from recbole_msm4sr.model.baselines.mvrnn import MVRNN

PREFIXES = [[1, 2, 3], [5], [8, 6, 7, 9, 1, 1, 4]]
COMBINATIONS = ["concatenation", "addition", "reconstruction"]
STRUCTURES = ["united", "separate"]
SIZE = 8
all_variants = [
    pytest.mark.parametrize("modalities", [["text", "image"], ["image"]], ids="-".join),
    pytest.mark.parametrize("structure", STRUCTURES),
    pytest.mark.parametrize("combination", COMBINATIONS),
]


def make_model(combination: str = "reconstruction", structure: str = "united", **changes: Any) -> MVRNN:
    """Nothing is blanked, unless asked for."""
    given = {"view_combination": combination, "hidden_structure": structure, "corruption_prob": 0.0, **changes}
    return randomise(MVRNN(make_config("MVRNN", **given), make_dataset()))


def views_of(model: MVRNN, combination: str, modalities: list[str]) -> list[np.ndarray]:
    """ID embeddings, then what is made of the features, each [n_items, d0]."""
    state = reference.to_numpy(model.state_dict())
    observed = [
        np.array([state[f"projections.{k}.projection.weight"] @ mean for mean in means_of(modality)])
        for k, modality in enumerate(modalities)
    ]
    return [state["item_embedding.weight"], *(observed if combination == "concatenation" else [sum(observed)])]


def scores_of(
    model: MVRNN, combination: str, structure: str, modalities: list[str], prefixes: list[list[int]]
) -> np.ndarray:
    views = views_of(model, combination, modalities)
    groups = [np.concatenate(views, axis=1)] if structure == "united" else views
    scores = np.zeros((len(prefixes), N_ITEMS))
    for k, group in enumerate(groups):
        weights = reference.to_numpy(model.state_dict(), f"units.{k}.")
        for row, prefix in enumerate(prefixes):
            scores[row] += group @ reference.lstm_states(group[prefix], weights)[-1]
    return scores


def parametrized(test: Any) -> Any:
    for mark in all_variants:
        test = mark(test)
    return test


@torch.no_grad()
@parametrized
def test_scores_are_products_of_recurrent_states_and_views(
    combination: str, structure: str, modalities: list[str]
) -> None:
    model = make_model(combination, structure, modalities=modalities).eval()
    expected = scores_of(model, combination, structure, modalities, PREFIXES)
    scores = model.full_sort_predict(histories(PREFIXES)).numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-6)  # means of features are float32


@parametrized
def test_losses_are_the_cross_entropy_over_items_and_the_error_of_restored_features(
    combination: str, structure: str, modalities: list[str]
) -> None:
    model = make_model(combination, structure, modalities=modalities, reconstruction_weight=3.0)
    prefixes, targets = map(list, zip(*pairs_of(packed_batch()), strict=True))
    expected = [reference.cross_entropy(scores_of(model, combination, structure, modalities, prefixes), targets)]
    if combination == "reconstruction":
        _, fused = views_of(model, combination, modalities)
        total = 0.0
        for target in targets:
            for k, modality in enumerate(modalities):
                if ROWS_OF_ITEM[modality][target]:
                    weight = reference.to_numpy(model.state_dict())[f"projections.{k}.projection.weight"]
                    error = weight.T @ fused[target] - means_of(modality)[target]
                    total += 3.0 * 0.5 * (error @ error) / FEATURE_SIZE
        expected.append(total / len(targets))
    assert model.loss_names == ("ce", "reconstruction")[: len(expected)]
    losses = model.calculate_loss(packed_batch())
    np.testing.assert_allclose([loss.item() for loss in losses], expected, rtol=1e-6)


@torch.no_grad()
def test_training_blanks_each_modality_of_an_item_by_itself() -> None:
    model = make_model(corruption_prob=0.25)
    item = 2  # has both
    text, image = (projection(torch.tensor([item]))[0] for projection in model.projections)
    fused = model.item_table(torch.full((40000,), item))[0, :, SIZE:]
    outcomes = {(t, i): t * text + i * image for t in (0, 1) for i in (0, 1)}
    shares = {key: torch.isclose(fused, value).all(dim=1).double().mean().item() for key, value in outcomes.items()}
    assert sum(shares.values()) == pytest.approx(1.0)
    for (t, i), share in shares.items():
        assert share == pytest.approx((0.75 if t else 0.25) * (0.75 if i else 0.25), abs=0.01)
    torch.testing.assert_close(model.eval().item_table(torch.tensor([item]))[0, 0, SIZE:], text + image)


@torch.no_grad()
@pytest.mark.parametrize("combination", ["concatenation", "addition"])
def test_only_reconstruction_blanks(combination: str) -> None:
    model = make_model(combination, corruption_prob=0.9)
    torch.testing.assert_close(model.item_table(), model.eval().item_table())


@torch.no_grad()
def test_what_is_blanked_is_still_to_be_restored() -> None:
    """With everything blanked nothing is left of m, and the error is the features themselves."""
    model = make_model(corruption_prob=1 - 1e-9, reconstruction_weight=1.0)
    items = torch.tensor([2, 7, 7])
    squares = [(means_of(modality)[items] ** 2).mean(axis=1) for modality in ("text", "image")]
    (loss,) = model.auxiliary_losses(torch.empty(0), items)
    assert loss.item() == pytest.approx(sum(squares).mean() / 2, rel=1e-6)


@torch.no_grad()
def test_an_item_without_features_is_its_id_alone() -> None:
    model = make_model().eval()
    assert (model.item_table()[0, 8, SIZE:] == 0).all()
    torch.testing.assert_close(model.item_table()[0, 8, :SIZE], model.item_embedding.weight[8])
    assert model.auxiliary_losses(torch.empty(0), torch.tensor([8]))[0] == 0


@torch.no_grad()
def test_dropout_acts_on_what_the_units_read_in_training_mode_only() -> None:
    model = make_model(hidden_dropout_prob=0.5)
    batch = packed_batch()["item_id_list"]
    table = model.item_table()
    torch.testing.assert_close(table, model.item_table())
    assert not torch.allclose(model.encode(table, batch), model.encode(table, batch))
    model.eval()
    torch.testing.assert_close(model.encode(table, batch), model.encode(table, batch))


@pytest.mark.parametrize("native", [True, False])
def test_the_recurrent_unit_runs_in_float32_where_bf16_is_not_native_and_says_so_once(
    native: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """oneDNN has no bfloat16 LSTM for processors without AVX-512, and fails."""
    monkeypatch.setattr(mvrnn, "default_precision", lambda device: "bf16" if native else "float32")
    model = MVRNN(make_config("MVRNN", precision="bf16"), make_dataset())
    seen: list[bool] = []
    model.units[0].register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    model.units[0].forward = lambda x: (x.float(), None)  # on any processor
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            sum(model.calculate_loss(packed_batch())).backward()
    assert seen == [native, native]
    assert caplog.text.count("the LSTM runs in float32") == (not native)


def test_bf16_trains_on_any_processor() -> None:
    model = MVRNN(make_config("MVRNN", precision="bf16"), make_dataset())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sum(model.calculate_loss(packed_batch())).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
