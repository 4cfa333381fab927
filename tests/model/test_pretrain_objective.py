"""The pre-training objective (eq. 6-11) over packed batches, and MSM4SRPretrain around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy_reference as reference
import pytest
import torch
from recbole.data.interaction import Interaction
from tiny_catalogue import (
    ITEM,
    ITEM_SEQ,
    LENGTH,
    N_ITEMS,
    histories,
    make_config,
    make_dataset,
    packed_batch,
    pairs_of,
    randomise,
    spy_on_encode_items,
    without_augmentation,
)

from recbole_msm4sr.model import pretrain_objective
from recbole_msm4sr.model.msm4sr import MSM4SRPretrain
from recbole_msm4sr.model.pretrain_objective import PretrainObjective

ALL_LOSSES = ("nip_text", "nip_image", "cmcl_text", "cmcl_image")


def make_model(**changes: Any) -> MSM4SRPretrain:
    """With λ = 0.5, so that CMCL weighs something."""
    return randomise(MSM4SRPretrain(make_config(**({"cmcl_weight": 0.5} | changes)), make_dataset()))


def expected_losses(model: MSM4SRPretrain, batch: Interaction, **changes: Any) -> dict[str, float]:
    config = make_config(**({"cmcl_weight": 0.5} | changes))
    return reference.pretrain_losses(make_dataset(), model.state_dict(), pairs_of(batch), config)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ALL_LOSSES),
        ({"temperature": 0.5, "cmcl_weight": 0.01}, ALL_LOSSES),
        ({"modalities": ["image", "text"]}, ("nip_image", "nip_text", "cmcl_image", "cmcl_text")),
        ({"use_cmcl": False}, ("nip_text", "nip_image")),
        ({"use_nip": False}, ("cmcl_text", "cmcl_image")),
        ({"use_mixup": False, "mixup_max": 0.5}, ALL_LOSSES),
        ({"modalities": ["text"]}, ("nip_text",)),
        ({"modalities": ["image"]}, ("nip_image",)),
    ],
)
def test_losses_of_a_packed_batch_are_equation_11_over_all_its_pairs(
    changes: dict[str, Any], names: tuple[str, ...]
) -> None:
    """Negatives and means are over all pairs of the batch, not over those of a row."""
    changes = without_augmentation() | changes
    model, batch = make_model(**changes), packed_batch()
    losses = model.calculate_loss(batch)
    expected = expected_losses(model, batch, **changes)
    assert model.loss_names == names
    np.testing.assert_allclose([loss.item() for loss in losses], [expected[name] for name in names], rtol=1e-9)


def test_targets_of_equal_content_are_not_each_others_negatives() -> None:
    """Items 2 and 9, both targets of the batch, are given the same sentence."""
    dataset, config = make_dataset(), make_config(cmcl_weight=0.5, **without_augmentation())
    values, offsets = dataset.item_features["text"]
    values[offsets[9]] = values[offsets[2]]
    model, batch = randomise(MSM4SRPretrain(config, dataset)), packed_batch()
    expected = reference.pretrain_losses(dataset, model.state_dict(), pairs_of(batch), config)
    losses = [loss.item() for loss in model.calculate_loss(batch)]
    np.testing.assert_allclose(losses, [expected[name] for name in ALL_LOSSES], rtol=1e-9)


def test_a_padded_batch_has_the_losses_of_a_narrow_one() -> None:
    model, batch = make_model(**without_augmentation()), packed_batch()
    wide = Interaction(
        {
            ITEM_SEQ: torch.nn.functional.pad(batch[ITEM_SEQ], (0, 2)),
            "target": torch.nn.functional.pad(batch["target"], (0, 2)),
            LENGTH: batch[LENGTH],
        }
    )
    torch.testing.assert_close(model.calculate_loss(wide), model.calculate_loss(batch), rtol=1e-9, atol=1e-9)


def test_rows_of_single_prefixes_have_the_losses_of_packed_rows() -> None:
    """``train_mode: prefix`` and ``packed`` are the same objective."""
    model, batch = make_model(**without_augmentation()), packed_batch()
    pairs = pairs_of(batch)
    prefixes = histories([prefix for prefix, _ in pairs])
    target = torch.zeros_like(prefixes[ITEM_SEQ])
    target[torch.arange(len(pairs)), prefixes[LENGTH] - 1] = torch.tensor([item for _, item in pairs])
    rows = Interaction({ITEM_SEQ: prefixes[ITEM_SEQ], "target": target, LENGTH: prefixes[LENGTH]})
    torch.testing.assert_close(model.calculate_loss(rows), model.calculate_loss(batch), rtol=1e-9, atol=1e-9)


def test_each_distinct_item_of_the_batch_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make_model(**without_augmentation()), packed_batch()
    calls = spy_on_encode_items(monkeypatch, model.m2se)
    model.calculate_loss(batch)
    assert len(calls) == 1
    ids = calls[0].tolist()
    assert len(ids) == len(set(ids))
    assert set(ids) - {0} == {*batch[ITEM_SEQ].flatten().tolist(), *batch["target"].flatten().tolist()} - {0}


def test_dropped_items_still_count_as_targets() -> None:
    """At ρ near 1 only the first items are inputs; NIP sees every pair, from the first item's state."""
    changes = without_augmentation() | {"sequence_dropout": 0.999999, "use_cmcl": False}
    model, batch = make_model(**changes), packed_batch()
    expected = reference.pretrain_losses(
        make_dataset(),
        model.state_dict(),
        [(prefix[:1], target) for prefix, target in pairs_of(batch)],
        make_config(**changes),
    )
    losses = model.calculate_loss(batch)
    np.testing.assert_allclose(
        [loss.item() for loss in losses], [expected[name] for name in model.loss_names], rtol=1e-9
    )


def test_a_pair_is_predicted_from_what_was_kept_of_its_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """NIP of every pair; CMCL of the first pair of every representation, since others repeat it."""
    model, batch = make_model(**without_augmentation()), packed_batch()
    model.objective.sequence_dropout = 0.5
    moves: list[Any] = []
    dropout = pretrain_objective.sequence_dropout

    def spy_dropout(*args: Any) -> Any:
        result = dropout(*args)
        moves.append(result[1])
        return result

    monkeypatch.setattr(pretrain_objective, "sequence_dropout", spy_dropout)
    losses = [[loss.item() for loss in model.calculate_loss(batch)] for _ in range(4)]
    for last_kept, actual in zip(moves, losses, strict=True):
        pairs, first, seen = [], [], set()
        for row, time in batch["target"].nonzero().tolist():
            kept = [i for i in range(time + 1) if i == 0 or last_kept[row, i] > last_kept[row, i - 1]]
            pairs.append(([int(batch[ITEM_SEQ][row, i]) for i in kept], int(batch["target"][row, time])))
            first.append((row, len(kept)) not in seen)
            seen.add((row, len(kept)))
        config, state = make_config(cmcl_weight=0.5), model.state_dict()
        nip = reference.pretrain_losses(make_dataset(), state, pairs, config)
        distinct = [pair for pair, is_first in zip(pairs, first, strict=True) if is_first]
        cmcl = reference.pretrain_losses(make_dataset(), state, distinct, config)
        expected = [nip["nip_text"], nip["nip_image"], cmcl["cmcl_text"], cmcl["cmcl_image"]]
        np.testing.assert_allclose(actual, expected, rtol=1e-9)
    assert len({tuple(actual) for actual in losses}) > 1


def test_items_learn_from_being_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Item 9 is a target and never an input."""
    model, batch = make_model(use_cmcl=False, **without_augmentation()), packed_batch()
    seen: list[Any] = []
    encode_items = model.m2se.encode_items

    def spy_encode_items(item_ids: Any) -> Any:
        table = encode_items(item_ids)
        table.retain_grad()
        seen.extend([item_ids, table])
        return table

    monkeypatch.setattr(model.m2se, "encode_items", spy_encode_items)
    sum(model.calculate_loss(batch)).backward()
    item_ids, table = seen
    assert not (batch[ITEM_SEQ] == 9).any()
    assert (table.grad[:, item_ids == 9].abs().amax(dim=-1) > 1e-9).all()


def test_a_shared_sequence_representation_is_not_a_negative_of_itself_in_cmcl() -> None:
    """When all but the first items are dropped, the pairs of a row share one representation: one of them counts."""
    changes = without_augmentation() | {"sequence_dropout": 0.999999, "use_nip": False}
    model, batch = make_model(**changes), packed_batch()
    batch["target"][1, 0] = 8  # the second row's first target is asked for
    losses = model.calculate_loss(batch)
    firsts = [(prefix, target) for prefix, target in pairs_of(batch) if len(prefix) == 1]
    config = make_config(**({"cmcl_weight": 0.5} | changes))
    expected = reference.pretrain_losses(make_dataset(), model.state_dict(), firsts, config)
    np.testing.assert_allclose([loss.item() for loss in losses], [expected[f"cmcl_{m}"] for m in ("text", "image")])


def test_cmcl_of_a_batch_whose_asked_for_inputs_were_all_dropped_is_finite() -> None:
    """The last batch of an epoch may hold one pair, whose last input is dropped with probability ρ."""
    model = make_model(sequence_dropout=0.999999)
    batch = Interaction({ITEM_SEQ: torch.tensor([[1, 2]]), "target": torch.tensor([[0, 4]]), LENGTH: torch.tensor([2])})
    assert all(torch.isfinite(loss) for loss in model.calculate_loss(batch))


def test_mixup_and_dropout_follow_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """ρ as configured; p of a sequence uniform in [0, mixup_max], the same at all its items, 0 at padding."""
    seen: dict[str, Any] = {}
    dropout = pretrain_objective.sequence_dropout

    def spy_dropout(item_seq: Any, item_length: Any, ratio: float) -> Any:
        seen["rho"] = ratio
        return dropout(item_seq, item_length, ratio)

    model = make_model(sequence_dropout=0.0, mixup_max=0.4)
    model.objective.sequence_dropout = 0.25
    monkeypatch.setattr(pretrain_objective, "sequence_dropout", spy_dropout)
    forward = model.m2se.forward

    def spy_forward(table: Any, index_seq: Any, mixup_ratio: Any = None) -> Any:
        seen.setdefault("ratios", []).append((index_seq, mixup_ratio))
        return forward(table, index_seq, mixup_ratio)

    monkeypatch.setattr(model.m2se, "forward", spy_forward)
    batch = packed_batch()
    many = Interaction({name: batch[name].repeat(100, *[1] * (batch[name].dim() - 1)) for name in batch.interaction})
    model.calculate_loss(many)
    assert seen["rho"] == 0.25
    of_sequences = []
    for index_seq, ratio in seen["ratios"]:
        padding = index_seq == 0  # item 0 is the first of the distinct items
        assert (ratio[padding] == 0).all()
        for row in range(len(ratio)):
            p = ratio[row][~padding[row]]
            assert (p == p[0]).all()
            of_sequences.append(p[0].item())
    assert 0 <= min(of_sequences) < 0.02
    assert 0.38 < max(of_sequences) <= 0.4
    assert np.mean(of_sequences) == pytest.approx(0.2, abs=0.03)


def test_augmented_losses_vary_and_unaugmented_ones_do_not() -> None:
    batch = packed_batch()
    for changes, varies in (
        ({"mixup_max": 0.0}, True),
        ({"sequence_dropout": 0.0}, True),
        ({"sequence_dropout": 0.0, "use_mixup": False}, False),
    ):
        model = make_model(**changes)
        totals = {round(sum(model.calculate_loss(batch)).item(), 9) for _ in range(4)}
        assert (len(totals) > 1) == varies, changes


def test_projections_map_the_own_and_the_complementary_stream() -> None:
    """Eq. 6: m̂^t and m̃^v come from h^t, m̂^v and m̃^t from h^v."""
    objective = randomise(PretrainObjective(("text", "image"), make_config()))
    h_t, h_v = torch.randn(2, 4, 8, dtype=torch.float64)
    spaces = objective.project(torch.stack([h_t, h_v]))
    text, image = objective.projections["text"], objective.projections["image"]
    for ours, expected in zip(
        spaces["text"] + spaces["image"], (text(h_t), text(h_v), image(h_v), image(h_t)), strict=True
    ):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("changes", [{"use_nip": False, "use_cmcl": False}, {"use_nip": False, "modalities": ["text"]}])
def test_an_objective_without_any_loss_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pre-training needs use_nip"):
        make_model(**changes)


@torch.no_grad()
@pytest.mark.parametrize("modalities", [["text", "image"], ["image"]])
def test_pretraining_ranks_items_by_the_cosines_that_nip_learns(modalities: list[str]) -> None:
    model = make_model(modalities=modalities).eval()
    prefixes = [[1, 2, 3], [5], [8, 6, 7, 9, 1]]
    scores = model.full_sort_predict(histories(prefixes)).numpy()
    state = model.state_dict()
    table, transformer = (
        reference.encode_items(make_dataset(), state, modalities),
        reference.to_numpy(state, "m2se.transformer."),
    )
    for row, prefix in enumerate(prefixes):
        h = [reference.last_state(stream[prefix], transformer, 2, 1e-12) for stream in table]
        for item in range(N_ITEMS):
            expected = 0.0
            for m, name in enumerate(modalities):
                weight, bias = reference.to_numpy(state, f"objective.projections.{name}.").values()
                for stream in (m, len(modalities) - 1 - m):
                    expected += reference.cosine(weight @ h[stream] + bias, table[m][item])
            np.testing.assert_allclose(scores[row, item], expected, rtol=1e-9, atol=1e-9)
    candidates = histories(prefixes)
    candidates.update(Interaction({ITEM: torch.tensor([4, 8, 9])}))
    np.testing.assert_allclose(model.predict(candidates).numpy(), scores[[0, 1, 2], [4, 8, 9]], rtol=1e-9)
