"""loading: data that cannot be used is refused in one line; the fingerprint follows the data."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data import loading
from recbole_msm4sr.data.dataloader import PackedDataLoader
from recbole_msm4sr.data.feature_store import FeatureStore
from recbole_msm4sr.data.multimodal_dataset import MultimodalSequentialDataset

Tiny = tuple[Path, str]


def load(model: str, tiny: Tiny, **settings: Any) -> loading.Data:
    data_path, name = tiny
    return loading.load(Config(model, name, config_dict={"data_path": str(data_path), **settings}))


def refusal(model: str, tiny: Tiny, **settings: Any) -> str:
    """The message with which the data is refused: one line."""
    with pytest.raises(UserError) as caught:
        load(model, tiny, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def inter_file(tiny: Tiny) -> Path:
    data_path, name = tiny
    return data_path / name / f"{name}.inter"


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# --- data that can be used


def test_a_prepared_folder_is_read_and_split_without_a_yaml_of_its_own(tiny_dataset: Tiny) -> None:
    data = load("MSM4SR", tiny_dataset)
    assert isinstance(data.dataset, MultimodalSequentialDataset)
    assert (data.dataset.user_num, data.dataset.item_num) == (41, 31)
    train, valid, test = data.parts
    assert len(valid) == len(test) == 40
    assert len(train) + 80 == len(data.dataset)
    assert set(data.fingerprint) == {"interactions", "text", "image", "users_and_targets", "items"}


def test_a_general_model_gets_features_with_the_very_split_of_recboles(tiny_dataset: Tiny) -> None:
    ours, recboles = load("GRCN", tiny_dataset), load("LightGCN", tiny_dataset)
    assert {"text", "image"} == set(ours.fingerprint) - set(recboles.fingerprint)
    assert recboles.fingerprint.items() <= ours.fingerprint.items()
    for own, other in zip(ours.parts, recboles.parts, strict=True):
        assert own.item_features is ours.dataset.item_features
        assert own.inter_feat["user_id"].tolist() == other.inter_feat["user_id"].tolist()
        assert own.inter_feat["item_id"].tolist() == other.inter_feat["item_id"].tolist()


def test_our_sequential_models_get_packed_batches_and_general_ones_and_recboles_their_own(tiny_dataset: Tiny) -> None:
    data_path, name = tiny_dataset
    kinds = {}
    for model in ("MSM4SR", "SASRec", "LightGCN", "GRCN"):
        config = Config(model, name, config_dict={"data_path": str(data_path)})
        train, valid, test = loading.loaders(config, loading.load(config))
        kinds[model] = type(train)
        assert type(valid).__name__ == type(test).__name__ == "FullSortEvalDataLoader"
        assert sum(len(batch[0]) for batch in test) == 40
        assert len(list(test)) == 1  # users a batch, for general models too
    assert kinds["MSM4SR"] is PackedDataLoader
    assert kinds["SASRec"] is not PackedDataLoader
    assert kinds["LightGCN"] is kinds["GRCN"] is not PackedDataLoader


def samplers(model: str, tiny: Tiny, **settings: Any) -> list[Any]:
    """What RecBole's loaders would sample negatives with: train (None where the loader is ours), valid, test."""
    config = Config(model, tiny[1], config_dict={"data_path": str(tiny[0]), **settings})
    return [getattr(loader, "_sampler", None) for loader in loading.loaders(config, loading.load(config))]


def test_samplers_are_made_where_negatives_are_sampled_and_only_there(tiny_dataset: Tiny) -> None:
    assert samplers("MSM4SR", tiny_dataset) == samplers("SASRec", tiny_dataset) == [None, None, None]
    for settings in ({"loss_type": "BPR"}, {"eval_args": {"mode": "uni10"}}):
        train, valid, test = samplers("SASRec", tiny_dataset, **settings)
        assert (train is not None) == ("loss_type" in settings)
        assert (valid.phase, test.phase) == ("valid", "test")
    assert all(samplers("LightGCN", tiny_dataset))


@pytest.mark.parametrize("model", ["MSM4SR", "SASRec", "LightGCN", "GRCN"])
def test_evaluation_can_be_left_to_rare_targets(tiny_dataset: Tiny, model: str) -> None:
    """The same users for every kind of model; training sees all, and so does what general models leave out."""
    whole = load(model, tiny_dataset)
    assert whole.evaluated == whole.parts[1:]
    counts = whole.training_counts()
    assert counts.sum() == inter_file(tiny_dataset).read_text().count("\n") - 1 - 2 * 40
    config = Config(model, tiny_dataset[1], config_dict={"data_path": str(tiny_dataset[0]), "eval_target_below": 10})
    data = loading.load(config)
    train, *evaluated = loading.loaders(config, data)
    for part, loader in zip(whole.parts[1:], evaluated, strict=True):
        users, items = part.inter_feat["user_id"], part.inter_feat["item_id"]
        expected = set(users[counts[items] < 10].tolist())
        assert 0 < len(expected) < 40
        assert {user for batch in loader for user in batch[0]["user_id"].tolist()} == expected
    assert len(train._dataset if hasattr(train, "_dataset") else train.dataset) == len(whole.parts[0])
    if model == "LightGCN":
        valid_item = dict(zip(*(whole.parts[1].inter_feat[f].tolist() for f in ("user_id", "item_id")), strict=True))
        used = evaluated[1]._sampler.used_ids
        assert all(valid_item[user] in used[user] for user in range(1, 41))


# --- data that cannot


def test_evaluation_of_rare_targets_where_there_are_none_is_refused(tiny_dataset: Tiny) -> None:
    assert "no target of the validation part has fewer" in refusal("MSM4SR", tiny_dataset, eval_target_below=1)


@pytest.mark.parametrize("model", ["MSM4SR", "SASRec", "LightGCN"])
def test_a_missing_data_set_is_refused_before_recbole_offers_a_download(tmp_path: Path, model: str) -> None:
    message = refusal(model, (tmp_path, "Amazon_Books"))
    assert message.startswith("there is no data set ")
    assert "Amazon_Books.inter: set data_path" in message


@pytest.mark.parametrize("column", ["user_id", "item_id", "timestamp"])
def test_a_missing_column_is_named_with_the_header_as_it_is(tiny_dataset: Tiny, column: str) -> None:
    rewrite(inter_file(tiny_dataset), column, "other")
    message = refusal("MSM4SR", tiny_dataset)
    assert f"has no column '{column}'" in message
    assert "other:" in message


def test_columns_of_other_names_can_be_used(tiny_dataset: Tiny) -> None:
    rewrite(inter_file(tiny_dataset), "timestamp", "when")
    columns = {"inter": ["user_id", "item_id", "when"]}
    assert len(load("MSM4SR", tiny_dataset, TIME_FIELD="when", load_col=columns).parts[2]) == 40


def test_a_header_without_types_is_refused(tiny_dataset: Tiny) -> None:
    rewrite(inter_file(tiny_dataset), "user_id:token\titem_id:token\ttimestamp:float", "user_id\titem_id\ttimestamp")
    assert "user_id has no type in its first line: write user_id:token" in refusal("MSM4SR", tiny_dataset)


@pytest.mark.parametrize(
    ("right", "wrong"), [("user_id:token", "user_id:float"), ("timestamp:float", "timestamp:token")]
)
def test_a_column_of_another_type_is_refused(tiny_dataset: Tiny, right: str, wrong: str) -> None:
    rewrite(inter_file(tiny_dataset), right, wrong)
    for model in ("MSM4SR", "SASRec", "LightGCN"):
        assert f"in its first line: write {right}" in refusal(model, tiny_dataset)


def test_a_byte_order_mark_is_named_and_can_be_declared(tiny_dataset: Tiny) -> None:
    path = inter_file(tiny_dataset)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert "starts with a byte order mark" in refusal("MSM4SR", tiny_dataset)
    assert len(load("MSM4SR", tiny_dataset, encoding="utf-8-sig").parts[2]) == 40


def test_a_file_of_another_encoding_is_refused(tiny_dataset: Tiny) -> None:
    rewrite(inter_file(tiny_dataset), "\ti3\t", "\té\t")
    inter_file(tiny_dataset).write_bytes(inter_file(tiny_dataset).read_text().encode("latin-1"))
    assert re.search(r"tiny\.inter, line \d+: is not utf-8", refusal("MSM4SR", tiny_dataset))
    assert "tiny.inter is not utf-16" in refusal("MSM4SR", tiny_dataset, encoding="utf-16")


def test_a_wrong_number_of_the_items_attributes_is_refused(tiny_dataset: Tiny) -> None:
    inter_file(tiny_dataset).with_suffix(".item").write_text("item_id:token\tprice:float\ni0\t1.5\ni1\tcheap\n")
    message = refusal("MSM4SR", tiny_dataset, load_col=None)
    assert "tiny.item, line 3: price must be a number, not 'cheap'" in message


def test_s3rec_without_item_attributes_is_refused(tiny_dataset: Tiny) -> None:
    message = refusal("S3Rec", tiny_dataset)
    assert "S3Rec needs the item attribute 'class'" in message
    assert "tiny.item" in message


def test_s3rec_with_item_attributes_is_loaded(tiny_dataset: Tiny) -> None:
    lines = ["item_id:token\tclass:token_seq", *[f"i{i}\tc{i % 3} c{i % 5}" for i in range(30)], ""]
    inter_file(tiny_dataset).with_suffix(".item").write_text("\n".join(lines))
    dataset = load("S3Rec", tiny_dataset).dataset
    assert dataset.item_feat["class"].shape == (31, 2)


def test_s3rec_with_an_item_file_that_lacks_the_attribute_is_refused(tiny_dataset: Tiny) -> None:
    lines = ["item_id:token\tbrand:token", *[f"i{i}\tb{i % 3}" for i in range(30)], ""]
    inter_file(tiny_dataset).with_suffix(".item").write_text("\n".join(lines))
    assert "'class'" in refusal("S3Rec", tiny_dataset)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("\ufeffitem_id:token\tclass:token_seq", "tiny.item starts with a byte order mark"),
        ("item_id\tclass:token_seq", "item_id has no type in its first line: write item_id:token"),
        ("item_id:float\tclass:token_seq", "item_id is of the type 'float'"),
        ("item:token\tclass:token_seq", "tiny.item has no column 'item_id'"),
    ],
)
def test_an_item_file_of_another_form_is_refused(tiny_dataset: Tiny, header: str, message: str) -> None:
    path = inter_file(tiny_dataset).with_suffix(".item")
    path.write_text(f"{header}\n" + "".join(f"i{i}\tc\n" for i in range(30)), encoding="utf-8")
    assert message in refusal("FDSA", tiny_dataset)
    assert message in refusal("SASRec", tiny_dataset, load_col=None)
    load("MSM4SR", tiny_dataset)  # which does not read it


def test_an_attribute_that_load_col_leaves_out_is_named_so(tiny_dataset: Tiny) -> None:
    inter_file(tiny_dataset).with_suffix(".item").write_text("item_id:token\tclass:token_seq\ni0\tc\n")
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    assert "and let load_col load it" in refusal("FDSA", tiny_dataset, load_col=columns)


@pytest.mark.parametrize("model", ["MSM4SR", "SASRec"])
@pytest.mark.parametrize("n_items", [1, 2, 3])
def test_data_in_which_every_user_is_too_short_is_refused(tiny_dataset: Tiny, model: str, n_items: int) -> None:
    rows = [f"u{user}\ti{(user + k) % 30}\t{k}" for user in range(40) for k in range(n_items)]
    inter_file(tiny_dataset).write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows, ""]))
    message = refusal(model, tiny_dataset)
    assert "the validation part is empty: users need four interactions" in message


def test_four_interactions_of_one_user_are_enough(tiny_dataset: Tiny) -> None:
    rows = [f"u0\ti{k}\t{k}" for k in range(4)]
    inter_file(tiny_dataset).write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows, ""]))
    settings = {"topk": [4], "valid_metric": "Recall@4"}
    assert [len(part) for part in load("MSM4SR", tiny_dataset, **settings).parts] == [1, 1, 1]
    assert "has 4 items: topk cannot ask for the best 20" in refusal("MSM4SR", tiny_dataset)


def test_filters_that_leave_nothing_are_refused(tiny_dataset: Tiny) -> None:
    assert "data set" in refusal("MSM4SR", tiny_dataset, user_inter_num_interval="[500,inf)")


def test_an_empty_interaction_file_is_refused(tiny_dataset: Tiny) -> None:
    inter_file(tiny_dataset).write_text("user_id:token\titem_id:token\ttimestamp:float\n")
    assert "data set" in refusal("MSM4SR", tiny_dataset)


# --- fingerprint


def test_the_fingerprint_is_that_of_the_contents_wherever_they_lie(tiny_dataset: Tiny, tmp_path: Path) -> None:
    data_path, name = tiny_dataset
    shutil.copytree(data_path, tmp_path / "moved")
    assert load("MSM4SR", tiny_dataset).fingerprint == load("MSM4SR", (tmp_path / "moved", name)).fingerprint


def test_the_fingerprint_changes_with_the_interactions(tiny_dataset: Tiny) -> None:
    before = load("MSM4SR", tiny_dataset).fingerprint
    rewrite(inter_file(tiny_dataset), "\t1000\n", "\t1001\n")
    after = load("MSM4SR", tiny_dataset).fingerprint
    assert {key for key in before if before[key] != after[key]} == {"interactions"}


def test_the_fingerprint_changes_with_the_item_attributes(tiny_dataset: Tiny) -> None:
    before = load("MSM4SR", tiny_dataset).fingerprint
    inter_file(tiny_dataset).with_suffix(".item").write_text("item_id:token\ni0\n")
    assert load("MSM4SR", tiny_dataset).fingerprint["interactions"] != before["interactions"]


@pytest.mark.parametrize("modality", ["text", "image"])
def test_the_fingerprint_changes_with_a_feature_store(tiny_dataset: Tiny, modality: str) -> None:
    data_path, name = tiny_dataset
    before = load("MSM4SR", tiny_dataset).fingerprint
    folder = data_path / name / "features" / modality
    store = FeatureStore.open(folder)
    rows = [np.array(store.rows_of(token)) for token in store.item_tokens]
    next(row for row in rows if len(row))[0, 0] += 1
    FeatureStore.write(folder, store.item_tokens, rows, encoder="random", overwrite=True)
    after = load("MSM4SR", tiny_dataset).fingerprint
    assert {key for key in before if before[key] != after[key]} == {modality}
