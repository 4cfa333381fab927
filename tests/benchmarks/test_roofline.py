"""Costs counted by formula equal those counted by hand; the machine's speed is measured once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import roofline
from benchmarks.roofline import Cost, Machine

CONFIG: dict[str, Any] = {
    "ITEM_ID_FIELD": "item_id",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "item_length",
    "modalities": ["text"],
    "hidden_size": 4,
    "inner_size": 8,
    "n_experts": 3,
    "n_layers": 2,
    "sequence_dropout": 0.0,
}
BATCH = {
    "item_id_list": torch.tensor([[1, 2, 3], [2, 0, 0]]),
    "target": torch.tensor([[2, 3, 1], [1, 0, 0]]),
    "item_length": torch.tensor([3, 1]),
}


def part() -> Any:
    """Four items with 2, 1, 3 and 4 rows of 6 numbers."""
    offsets = torch.tensor([0, 0, 2, 3, 6, 10])
    return SimpleNamespace(item_num=5, item_features={"text": (torch.zeros(10, 6, dtype=torch.float16), offsets)})


def test_a_fine_tuning_step_encodes_and_scores_every_item() -> None:
    attention = 2 * 4 * 10 * 6  # ten rows of six numbers: logits and sums, forward and backward
    experts = 3 * 2 * 4 * 6 * 3 * (4 + 1)  # four items, three experts and a gate each
    transformer = 3 * 2 * (2 * 4 * (4 * 16 + 2 * 32) + 2 * 2 * (6 + 1) * 4)  # positions 4, seen 1 + 2 + 3 and 1
    scores = 3 * 2 * 4 * 4 * 4  # four pairs, four items
    cost = roofline.finetuning_step(CONFIG, part(), BATCH, n_weights=100)
    assert cost.flop == attention + experts + transformer + scores
    assert cost.traffic == 2 * 10 * 6 * 2 + 28 * 100


def test_a_pre_training_step_encodes_the_items_of_the_batch() -> None:
    attention = 2 * 4 * 6 * 6  # items 1, 2 and 3 have six rows
    experts = 3 * 2 * 3 * 6 * 3 * (4 + 1)
    transformer = 3 * 2 * (2 * 4 * (4 * 16 + 2 * 32) + 2 * 2 * (6 + 1) * 4)
    losses = 3 * 2 * 5 * 4**2 * 4
    cost = roofline.pretraining_step(CONFIG, part(), BATCH, n_weights=100)
    assert cost.flop == attention + experts + transformer + losses
    assert cost.traffic == 2 * 6 * 6 * 2 + 28 * 100


def test_an_evaluation_has_no_backward_pass() -> None:
    attention, experts = 4 * 10 * 6, 2 * 4 * 6 * 3 * (4 + 1)
    transformer = 2 * (2 * 4 * (4 * 16 + 2 * 32) + 2 * 2 * (6 + 1) * 4)
    cost = roofline.evaluation(CONFIG, part(), torch.tensor([3, 1]), n_weights=100)
    assert cost.flop == attention + experts + transformer + 2 * 2 * 4 * 4
    assert cost.traffic == 10 * 6 * 2 + 4 * 100


def test_the_slower_of_computing_and_copying_bounds_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "machine", lambda: Machine(2.0, 4.0, 1.0, threads=1, device="cpu"))
    report = roofline.report(Cost(flop=2e9, traffic=0.5e9), rate=0.25)
    assert report["attainable"] == 1.0
    assert report["achieved"] == 0.25
    assert report["attainable_bfloat16"] == 2.0
    assert roofline.report(Cost(flop=1.0, traffic=2e9), rate=0.25)["attainable"] == 0.5


def test_the_machine_is_measured_once() -> None:
    found = roofline.machine()
    assert found is roofline.machine()
    assert min(found.float32, found.bfloat16, found.copy) > 0
