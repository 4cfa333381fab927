"""CLCRec: contents that stand in for cold items, and the two contrasts, candidate by candidate."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy_reference as reference
import pytest
import torch
from tiny_catalogue import N_ITEMS, make_config, means_of, randomise
from tiny_interactions import PAIRS, TRIPLES, make_training_part, of_users, triples

from recbole_msm4sr.model.baselines.clcrec import CLCRec

SIZE = 4
NEGATIVES = [[5, 6, 5], [2, 4, 3], [1, 8, 7], [6, 5, 7], [1, 2, 8], [5, 7, 6]]  # of the users of TRIPLES
both_or_one = pytest.mark.parametrize("modalities", [["text", "image"], ["image"]], ids="-".join)


def make_model(**changes: Any) -> CLCRec:
    given = {"embedding_size": SIZE, "n_negatives": 3, "temperature": 0.7, **changes}
    return randomise(CLCRec(make_config("CLCRec", **given), make_training_part()))


def contents_of(model: CLCRec, modalities: list[str]) -> np.ndarray:
    """Every item's encoded content, [n_items, d]."""
    state = reference.to_numpy(model.state_dict())
    rows = []
    for item in range(N_ITEMS):
        means = [means_of(modality)[item] for modality in modalities]
        features = np.concatenate([mean / (np.sqrt(mean @ mean) or 1.0) for mean in means])
        hidden = state["encoder.0.weight"] @ features + state["encoder.0.bias"]
        hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
        rows.append(state["encoder.2.weight"] @ hidden + state["encoder.2.bias"])
    return np.array(rows)


def negative_log_share(scores: list[float]) -> float:
    """Of the first one."""
    return -float(np.log(reference.softmax(np.array(scores))[0]))


@torch.no_grad()
@both_or_one
@pytest.mark.parametrize("replacement_prob", [0.0, 1.0])
def test_losses_are_the_contrasts_of_the_two_pairs_and_the_norms(
    modalities: list[str], replacement_prob: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(modalities=modalities, content_weight=0.6, replacement_prob=replacement_prob, reg_weight=3.0)
    monkeypatch.setattr(model.negatives, "draw", lambda users, n: torch.tensor(NEGATIVES))
    state = reference.to_numpy(model.state_dict())
    users, ids, contents = (
        state["user_embedding.weight"],
        state["item_embedding.weight"],
        contents_of(model, modalities),
    )
    id_content, user_item, item_norms = [], [], []
    for (user, positive, _), negatives in zip(TRIPLES, NEGATIVES, strict=True):
        candidates = [positive, *negatives]
        cosines = [reference.cosine(ids[positive], contents[item]) for item in candidates]
        id_content.append(negative_log_share([value / 0.7 for value in cosines]))
        items = contents if replacement_prob else ids
        user_item.append(negative_log_share([users[user] @ items[item] / 0.7 for item in candidates]))
        item_norms += [np.sqrt(ids[item] @ ids[item]) for item in candidates]
    user_norms = [np.sqrt(users[user] @ users[user]) for user, *_ in TRIPLES]
    expected = [
        0.6 * np.mean(id_content),
        0.4 * np.mean(user_item),
        3.0 * (np.mean(user_norms) + np.mean(item_norms)) / 2,
    ]
    np.testing.assert_allclose([loss.item() for loss in model.calculate_loss(triples())], expected, rtol=1e-6)


@torch.no_grad()
@both_or_one
@pytest.mark.parametrize("least", [1, 2, 3])
def test_items_that_training_has_hardly_seen_are_their_contents(modalities: list[str], least: int) -> None:
    model = make_model(modalities=modalities, min_item_count=least).eval()
    state, contents = reference.to_numpy(model.state_dict()), contents_of(model, modalities)
    counts = Counter(item for _, item in PAIRS)
    expected = [state["item_embedding.weight"][i] if counts[i] >= least else contents[i] for i in range(N_ITEMS)]
    np.testing.assert_allclose(model.item_vectors().numpy(), expected, rtol=1e-6, atol=1e-9)
    users = model.user_vectors(of_users([2, 1])).numpy()
    np.testing.assert_array_equal(users, state["user_embedding.weight"][[2, 1]])


@torch.no_grad()
def test_about_the_given_share_of_candidates_is_replaced_by_content() -> None:
    """Every content scores log 2 and every ID 0: the sum over n candidates is n plus the number of contents."""
    model = make_model(n_negatives=4000, replacement_prob=0.3, content_weight=0.0, temperature=1.0)
    for parameter in model.parameters():
        parameter.zero_()
    model.user_embedding.weight[:, 0] = 1.0
    model.encoder[2].bias[0] = np.log(2)
    _, loss, _ = model.calculate_loss(triples())
    shares = [np.exp(loss.item() + np.log(2) * k / 6) / 4001 - 1 for k in range(7)]  # k of 6 positives are contents
    assert min(abs(share - 0.3) for share in shares) < 0.01


@torch.no_grad()
def test_items_without_features_share_one_learned_content() -> None:
    model = make_model(modalities=["text"])
    content = model.encoder(model.features)
    torch.testing.assert_close(content[3], content[8])
    assert not torch.allclose(content[3], content[1])
    assert (content[3] != 0).all()


def test_users_learn_from_contents_too() -> None:
    """With every ID replaced, users and encoder learn from each other, and item IDs from the other contrast alone."""
    model = make_model(replacement_prob=1.0)
    _, user_item, _ = model.calculate_loss(triples())
    user_item.backward()
    assert model.user_embedding.weight.grad[[1, 2, 3, 4, 5]].abs().min() > 0
    assert model.encoder[0].weight.grad.abs().max() > 0
    assert (model.item_embedding.weight.grad == 0).all()
