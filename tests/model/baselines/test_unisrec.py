"""UniSRec: scores and losses of both stages, written out; what pre-training hands to fine-tuning."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy_reference as reference
import pytest
import torch
from recbole.data.interaction import Interaction
from tiny_catalogue import (
    ITEM_SEQ,
    LENGTH,
    ROWS_OF_ITEM,
    histories,
    make_config,
    make_dataset,
    packed_batch,
    pairs_of,
    randomise,
)

from recbole_msm4sr.model.baselines import unisrec
from recbole_msm4sr.model.baselines.unisrec import UniSRec, UniSRecPretrain

PREFIXES = [[1, 2, 3], [5], [8, 6, 7, 9, 1, 1, 4]]
INDUCTIVE = {"train_stage": "inductive_ft"}


def make_model(model_class: type = UniSRec, **changes: Any) -> Any:
    """In evaluation mode, where the gate has no noise."""
    return randomise(model_class(make_config(model_class.__name__, **changes), make_dataset())).eval()


def table_of(model: Any) -> np.ndarray:
    """Adapted means of feature rows, plus ID embeddings where there are any."""
    state = reference.to_numpy(model.state_dict())
    table = reference.whitening_adaptor(model.features.numpy(), reference.to_numpy(model.state_dict(), "adaptor."))
    return table + state.get("item_embedding.weight", 0)


def last_states(model: Any, table: np.ndarray, prefixes: list[list[int]]) -> np.ndarray:
    weights = reference.to_numpy(model.state_dict(), "transformer.")
    return np.array([reference.last_state(table[prefix], weights, 2, 1e-12) for prefix in prefixes])


def expected_scores(model: Any, prefixes: list[list[int]]) -> np.ndarray:
    table = table_of(model)
    states = last_states(model, table, prefixes)
    return np.array([[reference.cosine(state, item) / 0.07 for item in table] for state in states])


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, INDUCTIVE, {"modalities": ["text", "image"]}])
def test_scores_are_cosines_over_the_temperature(changes: dict[str, Any]) -> None:
    model = make_model(**changes)
    scores = model.full_sort_predict(histories(PREFIXES)).numpy()
    np.testing.assert_allclose(scores, expected_scores(model, PREFIXES), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("changes", [{}, INDUCTIVE])
def test_fine_tuning_is_the_cross_entropy_over_all_items(changes: dict[str, Any]) -> None:
    model, batch = make_model(**changes), packed_batch()
    prefixes, targets = map(list, zip(*pairs_of(batch), strict=True))
    (loss,) = model.calculate_loss(batch)
    assert model.loss_names == ("ce",)
    expected = reference.cross_entropy(expected_scores(model, prefixes), targets)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-9)


def test_pretraining_contrasts_sequences_with_next_items_and_with_shortened_sequences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Items 3 of row 0 and 6 of row 1 are dropped: two pairs then share the sequence of the item before."""
    model, batch = make_model(UniSRecPretrain, seq_seq_weight=0.5), packed_batch()
    shortened = torch.tensor([[1, 2, 4, 2], [5, 8, 0, 0], [7, 0, 0, 0]])
    last_kept = torch.tensor([[0, 1, 1, 2, 3], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    monkeypatch.setattr(unisrec, "sequence_dropout", lambda *_: (shortened, last_kept))
    prefixes, targets = map(list, zip(*pairs_of(batch), strict=True))
    kept = [[item for item in prefix if item not in (3, 6)] for prefix in prefixes]
    table = table_of(model)
    states, views = last_states(model, table, prefixes), last_states(model, table, kept)
    alone = [i for i, prefix in enumerate(prefixes) if prefix[-1] not in (3, 6)]
    assert len(alone) == len(targets) - 2

    losses = model.calculate_loss(batch)
    assert model.loss_names == ("seq_item", "seq_seq")
    with_text = [i for i, target in enumerate(targets) if ROWS_OF_ITEM["text"][target]]
    assert len(with_text) == len(targets) - 1
    texts = [targets[i] for i in with_text]
    expected = [
        reference.info_nce(states[with_text], table[texts], texts, 0.07),
        0.5 * reference.info_nce(states[alone], views[alone], [targets[i] for i in alone], 0.07),
    ]
    np.testing.assert_allclose([loss.item() for loss in losses], expected, rtol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_whose_asked_for_inputs_were_all_dropped_has_finite_losses(seed: int) -> None:
    torch.manual_seed(seed)
    model = make_model(UniSRecPretrain, sequence_dropout=0.99)
    batch = Interaction(
        {
            ITEM_SEQ: torch.tensor([[1, 2, 3]]),
            "target": torch.tensor([[0, 0, 4]]),
            LENGTH: torch.tensor([3]),
        }
    )
    assert all(loss.isfinite() for loss in model.calculate_loss(batch))


def test_items_without_text_share_one_vector_that_learns() -> None:
    model = make_model(**INDUCTIVE)
    table = model.item_table()[0]
    torch.testing.assert_close(table[3], table[8])  # neither has text
    assert not torch.allclose(table[3], table[1])
    table[3].sum().backward()
    assert model.adaptor.shift.grad.abs().max() > 0


# -- from stage 1 to stage 2 -------------------------------------------------------------------------------------------
def test_fine_tuning_starts_from_the_pretrained_adaptor_and_transformer() -> None:
    pretrained, model = make_model(UniSRecPretrain), make_model()
    embedding = model.item_embedding.weight.clone()
    model.load_backbone(pretrained.state_dict())
    ours, theirs = model.state_dict(), pretrained.state_dict()
    assert ours.keys() - theirs.keys() == {"item_embedding.weight"}
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(model.item_embedding.weight, embedding)
    inductive = make_model(**INDUCTIVE)
    inductive.load_backbone(pretrained.state_dict())
    with torch.no_grad():
        scores = (inductive.full_sort_predict(histories(PREFIXES)), pretrained.full_sort_predict(histories(PREFIXES)))
    torch.testing.assert_close(*scores)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_experts": 2}, r"adaptor.shift is \[2, 6\] there, \[3, 6\] here"),
        ({"n_layers": 3}, "it has 3 transformer layers, n_layers is 2"),
        ({"n_layers": 1}, r"it lacks transformer.layers.1."),
    ],
)
def test_a_checkpoint_of_other_sizes_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_model().load_backbone(make_model(UniSRecPretrain, **changes).state_dict())
