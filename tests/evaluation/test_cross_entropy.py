"""The cross entropy of a part of the split is that of a softmax over all items, computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.data import loading
from recbole_msm4sr.evaluation.cross_entropy import mean_cross_entropy


def test_cross_entropy_of_a_part(tiny_dataset: tuple[Path, str]) -> None:
    data_path, name = tiny_dataset
    config = Config("MSM4SR", name, config_dict={"data_path": str(data_path), "use_gpu": False, "n_experts": 2})
    data = loading.load(config)
    torch.manual_seed(1)
    model = config.spec.model_class(config, data.parts[0])
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn_like(weight)  # scores that differ
    part = data.parts[2]
    model.eval()
    rows = part.inter_feat[torch.arange(len(part))]
    with torch.no_grad():
        scores = model.full_sort_predict(rows)[:, 1:].double()
    target = rows[part.iid_field] - 1
    by_hand = -scores.softmax(dim=1)[torch.arange(len(target)), target].log().mean()

    model.train()  # with dropout, if it were left so
    assert mean_cross_entropy(model, part, scores_at_once=60) == pytest.approx(by_hand.item(), rel=1e-5)
    assert abs(by_hand.item() - torch.tensor(part.item_num - 1.0).log().item()) > 0.01  # not merely uniform
