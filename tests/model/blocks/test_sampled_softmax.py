"""Sampled softmax: which items are drawn, what corrects for it, and that it estimates the full softmax."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_catalogue import ITEM, ITEM_SEQ, N_ITEMS, make_config, make_dataset, packed_batch, randomise
from torch import Tensor

from recbole_msm4sr.model.blocks.sampled_softmax import CandidateSampler
from recbole_msm4sr.model.msm4sr import MSM4SR

COUNTS = torch.tensor([0, 40, 20, 10, 5, 3, 1, 1, 0, 0])


def dataset_with_targets() -> Any:
    """The tiny catalogue as a training part: ``COUNTS`` says how often an item is a target."""
    dataset = make_dataset()
    dataset.inter_feat = {ITEM: torch.arange(N_ITEMS).repeat_interleave(COUNTS)}
    return dataset


def make_model(model: type = MSM4SR, **changes: Any) -> Any:
    torch.manual_seed(5)
    return randomise(model(make_config(**changes), dataset_with_targets()), std=0.3)


def test_candidates_are_distinct_rising_and_hold_every_target() -> None:
    sampler = CandidateSampler(COUNTS, n_negatives=4, distribution="uniform")
    for seed in range(20):
        torch.manual_seed(seed)
        targets = torch.tensor([3, 1, 3, 7])
        candidates, log_q = sampler.draw(targets)
        assert (candidates.diff() > 0).all()
        assert set(targets.tolist()) <= set(candidates.tolist())
        assert 0 not in candidates  # padding
        assert log_q.shape == candidates.shape
        assert (log_q <= 0).all()


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_q_is_the_probability_of_being_a_candidate(distribution: str) -> None:
    """Estimated over batches whose targets follow the training counts, as Q supposes."""
    torch.manual_seed(1)
    sampler = CandidateSampler(COUNTS, n_negatives=3, distribution=distribution)
    n_batches = 4000
    present, expected = torch.zeros(N_ITEMS), torch.zeros(N_ITEMS)
    for targets in torch.multinomial(COUNTS.double(), 5 * n_batches, replacement=True).split(5):
        candidates, log_q = sampler.draw(targets)
        present[candidates] += 1
        expected[candidates] = log_q.exp()
    # three standard errors of a share estimated from 4,000 batches, at most 3 * 0.5 / sqrt(4000)
    torch.testing.assert_close(present / n_batches, expected, atol=0.024, rtol=0)
    assert (present[1:] > 0).all()  # items that never were a target are drawn too


def test_popular_items_are_drawn_more_often() -> None:
    def share_of_item_1(distribution: str) -> float:
        torch.manual_seed(2)
        sampler = CandidateSampler(COUNTS, 1, distribution)
        return sum(1 in sampler.draw(torch.tensor([9]))[0] for _ in range(500)) / 500

    assert share_of_item_1("popularity") == pytest.approx(41 / 89, abs=0.08)
    assert share_of_item_1("uniform") == pytest.approx(1 / 9, abs=0.05)


def test_the_correction_makes_the_estimate_of_the_denominator_right() -> None:
    """Σ over candidates of exp(score) / Q has the full sum as its expectation."""
    torch.manual_seed(3)
    scores = torch.randn(N_ITEMS, dtype=torch.float64)
    sampler = CandidateSampler(COUNTS, n_negatives=3, distribution="popularity")
    sums = []
    for targets in torch.multinomial(COUNTS.double(), 4 * 5000, replacement=True).split(4):
        candidates, log_q = sampler.draw(targets)
        sums.append((scores[candidates] - log_q).exp().sum())
    estimate = torch.stack(sums)
    standard_error = estimate.std() / len(sums) ** 0.5
    assert abs(estimate.mean() - scores[1:].exp().sum()) < 4 * standard_error


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_correction_is_subtracted(share: float) -> None:
    """The model's loss is the cross entropy of its scores among the candidates, less that share of log Q."""
    sampled = make_model(loss_type="sampled", n_negatives=2, logq_correction=share).eval()
    batch = packed_batch()
    torch.manual_seed(9)
    (loss,) = sampled.calculate_loss(batch)
    torch.manual_seed(9)
    row, time = batch["target"].nonzero(as_tuple=True)
    targets = batch["target"][row, time]
    candidates, log_q = CandidateSampler(COUNTS, 2, "popularity").draw(targets)
    table = sampled.item_table()
    states = sampled.vectors_of_states(sampled.encode(table, batch[ITEM_SEQ])[:, row, time])
    logits = states @ sampled.vectors_of_items(table)[candidates].T - share * log_q
    expected = torch.nn.functional.cross_entropy(logits, torch.searchsorted(candidates, targets))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_only_the_items_of_the_batch_are_encoded_and_get_id_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(loss_type="sampled", n_negatives=1, negative_distribution="uniform")
    encoded: list[Tensor] = []
    original = model.m2se.encode_items
    monkeypatch.setattr(model.m2se, "encode_items", lambda ids: encoded.append(ids) or original(ids))
    model.calculate_loss(packed_batch()[[2]])[0].backward()  # item 7, then item 1
    (ids,) = encoded
    assert len(ids) == len(ids.unique()) <= 4  # those, a negative and padding
    gradient = model.item_embedding.weight.grad
    assert gradient.is_sparse
    assert set(gradient.coalesce().indices()[0].tolist()) <= set(ids.tolist())


def test_pretraining_does_not_sample() -> None:
    from recbole_msm4sr.model.msm4sr import MSM4SRPretrain

    assert MSM4SRPretrain(make_config(loss_type="sampled"), make_dataset()).sampler is None
