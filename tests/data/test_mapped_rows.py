"""Features that stay on disk: the same rows, the same embeddings, and nothing else read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_msm4sr import run
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data import loading
from recbole_msm4sr.data.feature_store import FeatureStore
from recbole_msm4sr.data.mapped_rows import MappedRows
from recbole_msm4sr.model.blocks.encoder import ModalityEncoder

SIZES = {"hidden_size": 4, "attention_size": 3, "n_experts": 2, "dropout_prob": 0.0}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    rng = np.random.default_rng(1)
    rows = [rng.standard_normal((count, 5)) for count in (2, 0, 3, 1)]
    return FeatureStore.write(tmp_path / "text", ["a", "b", "c", "d"], rows, encoder="random")


def test_rows_come_in_the_order_asked_from_the_file(store: FeatureStore) -> None:
    _, row_index = store.select(["d", "a", "c"])
    rows = MappedRows(store.values, row_index)
    assert rows.shape == (6, 5)
    assert len(rows) == 6
    index = torch.tensor([4, 0, 0, 2])
    expected = torch.from_numpy(np.array(store.values))[torch.from_numpy(row_index)[index]]
    assert torch.equal(rows.index_select(0, index), expected)
    assert isinstance(rows.values, np.memmap)


def test_only_rows_can_be_selected(store: FeatureStore) -> None:
    with pytest.raises(ValueError, match="only rows"):
        MappedRows(store.values, np.arange(6)).index_select(1, torch.tensor([0]))


def test_an_encoder_reads_them_as_it_reads_memory(store: FeatureStore) -> None:
    offsets, row_index = store.select(["c", "b", "a", "d"])
    offsets = torch.from_numpy(offsets)
    on_disk = ModalityEncoder(MappedRows(store.values, row_index), offsets, **SIZES, items_at_once=2)
    in_memory = ModalityEncoder(torch.from_numpy(store.values[row_index]), offsets, **SIZES, items_at_once=2)
    in_memory.load_state_dict(on_disk.state_dict())
    torch.testing.assert_close(on_disk(), in_memory())
    items = torch.tensor([3, 1, 0])
    torch.testing.assert_close(on_disk(items), in_memory(items))


def test_contents_on_disk_are_told_apart_by_item_alone(store: FeatureStore) -> None:
    """In memory items of equal rows share a number; an item without rows has -1 either way."""
    offsets, row_index = store.select(["c", "b", "d", "d"])
    offsets = torch.from_numpy(offsets)
    on_disk = ModalityEncoder(MappedRows(store.values, row_index), offsets, **SIZES)
    in_memory = ModalityEncoder(torch.from_numpy(store.values[row_index]), offsets, **SIZES)
    items = torch.tensor([3, 1, 0, 2])
    assert on_disk.content_ids(items).tolist() == [3, -1, 0, 2]
    assert in_memory.content_ids(items).tolist() == [2, -1, 0, 2]


def settings(data_path: Path, **changes: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 8, "inner_size": 16, "n_experts": 2, "train_batch_size": 64, "pretrain_batch_size": 64}
    return {"data_path": str(data_path), "epochs": 2, "pretrain_epochs": 1, "loss_type": "sampled", **sizes, **changes}


def test_training_from_disk_equals_training_from_memory(tiny_dataset: tuple[Path, str]) -> None:
    data_path, name = tiny_dataset
    results = [
        run("MSM4SR", name, config_dict=settings(data_path, feature_storage=where, reuse=False))["test_result"]
        for where in ("memory", "disk")
    ]
    assert results[0] == results[1]


def test_the_data_set_leaves_features_in_their_files(tiny_dataset: tuple[Path, str]) -> None:
    data_path, name = tiny_dataset
    data = loading.load(Config("MSM4SR", name, None, settings(data_path, feature_storage="disk")))
    assert all(isinstance(values, MappedRows) for values, _ in data.dataset.item_features.values())


def test_cross_entropy_over_all_items_needs_features_in_memory(tiny_dataset: tuple[Path, str]) -> None:
    data_path, name = tiny_dataset
    with pytest.raises(UserError, match="feature_storage: disk needs loss_type: sampled"):
        Config("MSM4SR", name, None, settings(data_path, feature_storage="disk", loss_type="CE"))
