"""Data sets with item features: the rows of the stores, in the order of the data set's own ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_store import FeatureStore
from recbole_msm4sr.data.multimodal_dataset import MultimodalDataset, MultimodalSequentialDataset


def multimodal(tiny_dataset: tuple[Path, str], **settings: Any) -> MultimodalSequentialDataset:
    data_path, name = tiny_dataset
    config = Config("MSM4SR", name, config_dict={"data_path": str(data_path), **settings})
    return MultimodalSequentialDataset(config)


def replace_store(folder: Path, tokens: list[str], dim: int = 8) -> FeatureStore:
    """A store in which row r of item k (of r + 1 rows) is filled with k + r / 10."""
    rows = [
        np.repeat(np.arange(k % 3 + 1)[:, None] / 10 + k, dim, axis=1).astype(np.float32) for k in range(len(tokens))
    ]
    return FeatureStore.write(folder, tokens, rows, encoder="test", overwrite=True)


@pytest.mark.parametrize("modality", ["text", "image"])
def test_features_lie_in_the_order_of_the_internal_ids(tiny_dataset: tuple[Path, str], modality: str) -> None:
    data = multimodal(tiny_dataset)
    store = FeatureStore.open(Path(data.config["feature_path"]) / modality)
    values, offsets = data.item_features[modality]
    tokens = data.field2id_token["item_id"]
    assert store.item_tokens != tokens[1:].tolist()  # or the test would show nothing
    assert (values.dtype, offsets.dtype) == (torch.float16, torch.int64)
    assert offsets.shape == (data.item_num + 1,)
    assert int(offsets[-1]) == len(values)
    assert offsets[:2].tolist() == [0, 0]  # the padding item owns no row
    for item, token in enumerate(tokens[1:], start=1):
        np.testing.assert_array_equal(values[offsets[item] : offsets[item + 1]].numpy(), store.rows_of(token))


def test_an_item_without_an_image_owns_no_row_and_rows_keep_their_order(tiny_dataset: tuple[Path, str]) -> None:
    data = multimodal(tiny_dataset)
    counts = {modality: offsets.diff()[1:] for modality, (_, offsets) in data.item_features.items()}
    assert counts["text"].min() >= 1
    assert counts["image"].min() == 0
    values, offsets = data.item_features["text"]
    store = FeatureStore.open(Path(data.config["feature_path"]) / "text")
    longest = int(offsets.diff().argmax())
    token = data.field2id_token["item_id"][longest]
    assert not np.array_equal(store.rows_of(token), store.rows_of(token)[::-1])
    np.testing.assert_array_equal(values[offsets[longest]].numpy(), store.rows_of(token)[0])


def test_general_and_sequential_models_have_the_same_features(tiny_dataset: tuple[Path, str]) -> None:
    data_path, name = tiny_dataset
    general = MultimodalDataset(Config("GRCN", name, config_dict={"data_path": str(data_path)}))
    sequential = multimodal(tiny_dataset)
    assert general.field2id_token["item_id"].tolist() == sequential.field2id_token["item_id"].tolist()
    assert general.feature_fingerprints == sequential.feature_fingerprints
    for modality, pair in sequential.item_features.items():
        assert all(map(torch.equal, general.item_features[modality], pair))


def test_only_the_modalities_in_use_are_read(tiny_dataset: tuple[Path, str]) -> None:
    assert set(multimodal(tiny_dataset, modalities=["image"]).item_features) == {"image"}
    both = multimodal(tiny_dataset, modalities=["text"], pretrain_modalities=["text", "image"])
    assert set(both.item_features) == set(both.feature_fingerprints) == {"text", "image"}


def test_every_part_of_the_split_carries_the_features(tiny_dataset: tuple[Path, str]) -> None:
    data = multimodal(tiny_dataset)
    for part in data.build():
        assert part.item_features is data.item_features


def test_a_store_that_lacks_items_is_refused_unless_told_otherwise(tiny_dataset: tuple[Path, str]) -> None:
    data_path, name = tiny_dataset
    replace_store(data_path / name / "features" / "text", [f"i{i}" for i in range(28)])
    with pytest.raises(UserError, match=r"lacks 2 of 30 items \(i2[89], i2[89]\): set allow_missing_features: true"):
        multimodal(tiny_dataset)
    data = multimodal(tiny_dataset, allow_missing_features=True)
    counts = data.item_features["text"][1].diff().tolist()
    by_token = dict(zip(data.field2id_token["item_id"], counts, strict=True))
    assert by_token == {"[PAD]": 0, **{f"i{k}": k % 3 + 1 for k in range(28)}, "i28": 0, "i29": 0}


def test_items_of_the_store_without_interactions_are_left_out(tiny_dataset: tuple[Path, str]) -> None:
    data_path, name = tiny_dataset
    tokens = ["elsewhere", *[f"i{i}" for i in reversed(range(30))], "nowhere"]
    replace_store(data_path / name / "features" / "text", tokens)
    data = multimodal(tiny_dataset)
    values, offsets = data.item_features["text"]
    item = data.token2id("item_id", "i7")
    k = tokens.index("i7")
    expected = np.array([k + r / 10 for r in range(k % 3 + 1)], dtype=np.float16)
    np.testing.assert_array_equal(values[offsets[item] : offsets[item + 1], 0].numpy(), expected)
    assert len(values) == sum(k % 3 + 1 for k in range(1, 31))


def test_a_feature_size_that_differs_from_the_store_is_refused(tiny_dataset: tuple[Path, str]) -> None:
    with pytest.raises(UserError, match=r"vectors of 8 numbers, not feature_size \(768\): .*set feature_size to 8"):
        multimodal(tiny_dataset, modalities=["text"], feature_size=768)
    assert multimodal(tiny_dataset, modalities=["text"], feature_size=8).item_features["text"][0].shape[1] == 8


def test_a_missing_store_is_refused_with_the_way_to_make_one(tiny_dataset: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no feature store .*elsewhere.text: import one .*leave text out"):
        multimodal(tiny_dataset, feature_path=str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_have_become_nan_or_infinite_are_refused(tiny_dataset: tuple[Path, str], bad: float) -> None:
    data_path, name = tiny_dataset
    folder = data_path / name / "features" / "text"
    values = np.load(folder / "values.npy", mmap_mode="r+")
    values[5, 3] = bad
    values.flush()
    with pytest.raises(UserError, match=r"values.npy has changed since it was written"):
        multimodal(tiny_dataset)
