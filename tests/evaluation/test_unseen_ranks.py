"""Ranks among items that a user has not met, against a ranking made item by item."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.data import loading
from recbole_msm4sr.evaluation import unseen_ranks


def test_ranks_are_those_of_a_list_without_the_history(
    tiny_dataset: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data_path, name = tiny_dataset
    config = Config("GRU4Rec", name, config_dict={"data_path": str(data_path), "MAX_ITEM_LIST_LENGTH": 2})
    data = loading.load(config)
    _, _, test = loading.loaders(config, data)
    rows, n_items = test._dataset.inter_feat, data.dataset.item_num
    users, items = rows["user_id"].numpy(), rows["item_id"].numpy()
    scores = torch.randint(0, 9, (data.dataset.user_num, n_items), generator=torch.Generator().manual_seed(1)).float()
    met: dict[int, set[int]] = {user: set() for user in users.tolist()}
    for line in (data_path / name / f"{name}.inter").read_text().splitlines()[1:]:
        user, item, _ = line.split("\t")
        met[data.dataset.token2id("user_id", user)].add(data.dataset.token2id("item_id", item))
    expected = []
    for user, target in zip(users.tolist(), items.tolist(), strict=True):
        listed = [item for item in range(1, n_items) if item == target or item not in met[user]]
        listed.sort(key=lambda item: (-float(scores[user, item]), item))
        expected.append(listed.index(target) + 1)
    for at_once in (2**25, 3 * n_items):
        monkeypatch.setattr(unseen_ranks, "_SCORES_AT_ONCE", at_once)
        ranks = unseen_ranks.unseen_ranks(
            lambda rows: scores[rows["user_id"]].clone(), test, data.dataset, users, items
        )
        assert ranks.tolist() == expected
    assert len(set(expected)) > 5
