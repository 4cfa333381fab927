"""The vectorised data set against RecBole's own, tensor for tensor.

Ties in time keep the order of the file, in RecBole's data set and in ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data import create_samplers
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.data.dataset import SequenceInteraction, VectorisedSequentialDataset

SMALL_ML_100K = {"user_inter_num_interval": "[20,80]"}
PARTS = ("train", "valid", "test")


def assert_same_rows(ours: Any, theirs: Interaction) -> None:
    """The same columns in the same order, the same rows in the same order, the same dtypes."""
    assert len(ours) == len(theirs)
    assert list(ours.columns) == list(theirs.columns)
    assert set(ours.interaction) == set(theirs.interaction)
    for name in theirs.columns:
        assert ours[name].dtype == theirs[name].dtype, name
        assert ours[name].shape == theirs[name].shape, name
        assert torch.equal(ours[name], theirs[name]), name


def build_both(
    model: str, dataset: str, settings: Mapping[str, Any]
) -> tuple[Config, VectorisedSequentialDataset, list[Any], SequentialDataset, list[Any]]:
    """Our and RecBole's whole data set with the parts they split into, from settings of their own."""
    ours = VectorisedSequentialDataset(Config(model, dataset, config_dict=copy.deepcopy(dict(settings))))
    config = Config(model, dataset, config_dict=copy.deepcopy(dict(settings)))
    theirs = SequentialDataset(config)
    return config, ours, ours.build(), theirs, theirs.build()


def assert_same_split(model: str, dataset: str, settings: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    _, our_whole, ours, their_whole, theirs = build_both(model, dataset, settings)
    assert_same_rows(our_whole.inter_feat, their_whole.inter_feat)
    assert len(ours) == len(theirs) == 3
    for our_part, their_part in zip(ours, theirs, strict=True):
        assert_same_rows(our_part.inter_feat, their_part.inter_feat)
    for name in ("field2type", "field2source", "field2seqlen", "field2token_id"):
        assert getattr(our_whole, name) == getattr(their_whole, name), name
    for field, tokens in their_whole.field2id_token.items():
        np.testing.assert_array_equal(our_whole.field2id_token[field], tokens)
    return ours, theirs


@pytest.fixture
def write_inter(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Write data set ``x`` with many equal times and users of 1 to 30 items; returns the settings to read it."""

    def write(seed: int, extra: Mapping[str, Callable[[np.random.Generator], str]] | None = None) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        extra = extra or {}
        counts = np.concatenate([[1, 1, 2, 2, 3, 3, 4, 4, 5, 12, 13, 30], rng.integers(1, 9, 12)])
        rows = [
            "\t".join(
                [f"u{user}", f"i{rng.integers(25)}", str(rng.integers(3)), *[make(rng) for make in extra.values()]]
            )
            for user, count in enumerate(counts)
            for _ in range(count)
        ]
        header = "\t".join(["user_id:token", "item_id:token", "timestamp:float", *extra])
        folder = tmp_path / "data" / "x"
        folder.mkdir(parents=True)
        (folder / "x.inter").write_text("\n".join([header, *[rows[i] for i in rng.permutation(len(rows))], ""]))
        return {"data_path": str(tmp_path / "data"), "MAX_ITEM_LIST_LENGTH": 10}

    return write


# --- the same rows as RecBole


def test_ml_100k_gives_recboles_rows_with_its_real_ties_in_time() -> None:
    ours, _ = assert_same_split("SASRec", "ml-100k", SMALL_ML_100K)
    train = ours[0].inter_feat
    assert len(train) > 10_000
    assert (train["item_length"] == 50).sum() > 100  # histories longer than MAX_ITEM_LIST_LENGTH are among them
    lists, length = train["timestamp_list"], train["item_length"]
    tied = (lists[:, 1:] == lists[:, :-1]) & (torch.arange(1, 50) < length.unsqueeze(1))
    assert tied.any()


@pytest.mark.parametrize("seed", range(4))
def test_small_data_with_many_ties_gives_recboles_rows(write_inter: Callable[..., dict[str, Any]], seed: int) -> None:
    ours, _ = assert_same_split("SASRec", "x", write_inter(seed))
    assert all(len(part) for part in ours)


@pytest.mark.parametrize("group_by", ["user", "none"])
def test_ratio_splits_give_recboles_rows(write_inter: Callable[..., dict[str, Any]], group_by: str) -> None:
    args = {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "TO", "group_by": group_by, "mode": "full"}
    assert_same_split("SASRec", "x", {**write_inter(1), "eval_args": args})


TIME_SPLIT = {"split": {"TS": [0.7, 0.1, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"}


def test_time_splits_give_recboles_rows() -> None:
    ours, _ = assert_same_split("SASRec", "ml-100k", {"user_inter_num_interval": "[20,40]", "eval_args": TIME_SPLIT})
    assert min(map(len, ours)) > 0


def test_a_split_with_an_empty_part_gives_recboles_rows(write_inter: Callable[..., dict[str, Any]]) -> None:
    ours, _ = assert_same_split("SASRec", "x", {**write_inter(1), "eval_args": TIME_SPLIT})
    assert len(ours[2]) == 0


EXTRA = {
    "rating:float": lambda rng: f"{rng.random():.3f}",
    "tags:token_seq": lambda rng: " ".join(f"t{rng.integers(9)}" for _ in range(rng.integers(0, 4))),
    "sizes:float_seq": lambda rng: " ".join(f"{rng.random():.2f}" for _ in range(rng.integers(0, 3))),
    "place:token": lambda rng: f"p{rng.integers(4)}" if rng.random() < 0.8 else "",
}


def test_extra_columns_of_every_type_give_recboles_rows(write_inter: Callable[..., dict[str, Any]]) -> None:
    ours, _ = assert_same_split("SASRec", "x", {**write_inter(2, EXTRA), "load_col": None})
    train = ours[0].inter_feat
    assert train["tags_list"].shape == (len(train), 10, 3)
    assert train["sizes_list"].dtype == torch.float32


def test_numerical_features_give_recboles_rows(write_inter: Callable[..., dict[str, Any]]) -> None:
    settings = {**write_inter(3, EXTRA), "load_col": None, "numerical_features": ["rating"]}
    ours, _ = assert_same_split("SASRec", "x", settings)
    assert ours[0].inter_feat["rating_list"].shape[1:] == (10, 2)


def test_s3recs_item_attribute_is_loaded_as_recbole_loads_it() -> None:
    _, ours, our_parts, theirs, their_parts = build_both("S3Rec", "ml-100k", SMALL_ML_100K)
    assert "class" in ours.item_feat.columns
    assert_same_rows(ours.item_feat, theirs.item_feat)
    for our_part, their_part in zip(our_parts, their_parts, strict=True):
        assert_same_rows(our_part.inter_feat, their_part.inter_feat)
        rows = torch.arange(5)
        assert_same_rows(our_part[rows], their_part[rows])  # joined with the item's attributes


def test_unused_columns_are_dropped_as_recbole_drops_them(write_inter: Callable[..., dict[str, Any]]) -> None:
    settings = {**write_inter(2, EXTRA), "load_col": None, "unused_col": {"inter": ["rating", "tags_list"]}}
    _, _, ours, _, theirs = build_both("SASRec", "x", settings)
    assert "rating" not in theirs[0].inter_feat
    for our_part, their_part in zip(ours, theirs, strict=True):
        assert_same_rows(our_part.inter_feat, their_part.inter_feat)


ODD_TOKENS = ["007", "7", "7.0", "1e3", "NA", "", "nan", "é", "日本", "a b", "x" * 40, "B00006LVF1"]


@pytest.fixture
def odd_data(tmp_path: Path) -> dict[str, Any]:
    """Data set ``x`` with the columns user, item, time, rating, place and its users' and items' attributes.

    Users, items and places are odd tokens, some missing; ratings are missing here and there.
    """
    rng = np.random.default_rng(5)
    lines = ["user_id:token,item_id:token,timestamp:float,rating:float,place:token"]
    for _ in range(400):
        time = rng.choice(["-1", "1e3", "1.5", *map(str, range(20))])
        cells = [f"{rng.choice(['', 'u', '0'])}{rng.integers(20)}", rng.choice(ODD_TOKENS), time]
        lines.append(",".join([*cells, rng.choice(["", "1", "2.5", "5"]), rng.choice(ODD_TOKENS[:8])]))
    folder = tmp_path / "data" / "x"
    folder.mkdir(parents=True)
    (folder / "x.inter").write_text("\n".join([*lines, ""]), encoding="utf-8")
    items = ["item_id:token,kind:token,tags:token_seq"]
    items += [f"{token},k{i % 2},t{i % 3} t{i % 5}" for i, token in enumerate(ODD_TOKENS[::-2])]
    (folder / "x.item").write_text("\n".join([*items, "nobody's,,", ""]), encoding="utf-8")
    users = ["user_id:token,age:float", *[f"u{i},{i}" for i in range(15)], ""]
    (folder / "x.user").write_text("\n".join(users), encoding="utf-8")
    return {"data_path": str(tmp_path / "data"), "field_separator": ",", "MAX_ITEM_LIST_LENGTH": 10}


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "all columns": {"load_col": None},
    "unload_col": {"load_col": None, "unload_col": {"inter": ["rating"], "item": ["tags"], "user": ["age"]}},
    "rm_dup_inter first": {"rm_dup_inter": "first"},
    "rm_dup_inter last": {"rm_dup_inter": "last"},
    "k-core": {"user_inter_num_interval": "[5,inf)", "item_inter_num_interval": "[3,100]"},
    "k-core with attributes": {"user_inter_num_interval": "[5,inf)", "load_col": None},
    "val_interval of a number": {"val_interval": {"timestamp": "[2,inf)"}},
    "val_interval of tokens": {"val_interval": {"item_id": ["007", "é", "x" * 40]}},
    "users or items without attributes kept": {"load_col": None, "filter_inter_by_user_or_item": False},
    "one numbering for two columns": {
        "load_col": {"inter": ["user_id", "item_id", "timestamp", "place"]},
        "alias_of_item_id": ["place"],
    },
    "normalize_field": {"normalize_field": ["timestamp"]},
    "numerical_features": {"numerical_features": ["timestamp"]},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_recboles_options_give_recboles_rows(odd_data: dict[str, Any], name: str) -> None:
    ours, theirs = assert_same_split("SASRec", "x", {**odd_data, **OPTIONS[name]})
    assert min(map(len, ours)) > 0
    for mine, stock in zip(ours, theirs, strict=True):
        for feat in ("user_feat", "item_feat"):
            assert (getattr(mine, feat) is None) == (getattr(stock, feat) is None)
            if getattr(stock, feat) is not None:
                assert_same_rows(getattr(mine, feat), getattr(stock, feat))


@pytest.mark.parametrize("change", ["plain", "quotes", "Windows line ends", "latin-1", "another separator"])
def test_a_file_that_is_not_plain_gives_the_same_rows(odd_data: dict[str, Any], change: str) -> None:
    path = Path(odd_data["data_path"]) / "x" / "x.inter"
    text = path.read_text(encoding="utf-8").replace("日本", "ü")
    path.write_text(text, encoding="utf-8")
    plain, _ = assert_same_split("SASRec", "x", odd_data)
    settings = dict(odd_data)
    if change == "quotes":
        path.write_text(text.replace(",a b,", ',"a b",'), encoding="utf-8")
    elif change == "Windows line ends":
        path.write_bytes(text.replace("\n", "\r\n").encode())
    elif change == "latin-1":
        path.write_text(text, encoding="latin-1")
        settings["encoding"] = "latin-1"
    elif change == "another separator":
        path.write_text(text.replace(",", "::"), encoding="utf-8")
        settings["field_separator"] = "::"
    ours, _ = assert_same_split("SASRec", "x", settings)
    for mine, same in zip(ours, plain, strict=True):
        assert_same_rows(mine.inter_feat, same.inter_feat)
        assert mine.field2id_token["item_id"].tolist() == same.field2id_token["item_id"].tolist()


def test_what_is_kept_of_an_interaction_does_not_grow_with_the_length_of_histories(tmp_path: Path) -> None:
    """RecBole keeps 20 bytes for each of MAX_ITEM_LIST_LENGTH positions."""
    folder = tmp_path / "data" / "x"
    folder.mkdir(parents=True)
    rows = [f"u{user}\ti{(user * 7 + k) % 90}\t{k}" for user in range(100) for k in range(60)]
    (folder / "x.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows, ""]))
    config = Config("SASRec", "x", config_dict={"data_path": str(tmp_path / "data"), "MAX_ITEM_LIST_LENGTH": 50})
    dataset = VectorisedSequentialDataset(config)
    tensors: dict[int, torch.Tensor] = {}
    for part in (dataset, *dataset.build()):
        rows_of_part = part.inter_feat
        for value in [*vars(rows_of_part).values(), *vars(rows_of_part.flat)["interaction"].values()]:
            if isinstance(value, torch.Tensor):
                tensors[value.data_ptr()] = value
    assert sum(value.nbytes for value in tensors.values()) <= 40 * len(rows)


@pytest.mark.parametrize("model", ["SASRec", "LightGCN"])
@pytest.mark.parametrize(("precision", "last_three"), [("float64", "dfe"), ("float32", "fde")])
def test_times_are_sorted_as_they_were_read_or_as_float32(
    tmp_path: Path, model: str, precision: str, last_three: str
) -> None:
    """float32 takes 1.5e9 + 1 and + 2 for equal, and leaves them in the order of the file."""
    folder = tmp_path / "data" / "x"
    folder.mkdir(parents=True)
    times = {"f": 1_500_000_002, "a": 1_400_000_000, "d": 1_500_000_001, "b": 1_400_001_000, "e": 1_600_000_000}
    lines = [f"{user}\t{item}\t{time}" for user in "vw" for item, time in times.items()]
    (folder / "x.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines, ""]))
    settings = {"data_path": str(tmp_path / "data"), "time_precision": precision}
    config = Config(model, "x", config_dict=settings)
    dataset = config.spec.dataset_class(config)
    train, *held_out = dataset.build()
    if model == "SASRec":
        theirs = SequentialDataset(Config(model, "x", config_dict=settings)).build()
        for mine, stock in zip((train, *held_out), theirs, strict=True):
            assert_same_rows(mine.inter_feat, stock.inter_feat)
    last = [set(part.id2token("item_id", part.inter_feat["item_id"])) for part in held_out]
    assert last == [{last_three[1]}, {last_three[2]}]
    swapped = [line for line in getattr(dataset, "notes", []) if "would swap 2 pairs of neighbours" in line]
    assert len(swapped) == (precision == "float64")


def test_inter_matrix_is_recboles(write_inter: Callable[..., dict[str, Any]]) -> None:
    _, ours, our_parts, theirs, their_parts = build_both("SASRec", "x", write_inter(0))
    for our_part, their_part in zip([ours, *our_parts], [theirs, *their_parts], strict=True):
        for value_field in (None, "timestamp"):
            mine = our_part.inter_matrix("csr", value_field)
            assert (mine != their_part.inter_matrix("csr", value_field)).nnz == 0
            assert mine.dtype == their_part.inter_matrix("csr", value_field).dtype
    assert our_parts[0].inter_matrix().nnz > 0


def test_the_general_data_set_holds_out_the_same_items() -> None:
    """SASRec and LightGCN are tested on the same item of every user (of four interactions and more)."""
    general = Config("LightGCN", "ml-100k", config_dict=dict(SMALL_ML_100K))
    sequential = Config("SASRec", "ml-100k", config_dict=dict(SMALL_ML_100K))
    held_out = []
    for dataset in (Dataset(general), VectorisedSequentialDataset(sequential)):
        parts = dataset.build()[1:]
        held_out.append(
            [
                dict(
                    zip(
                        part.id2token("user_id", part.inter_feat["user_id"]),
                        part.id2token("item_id", part.inter_feat["item_id"]),
                        strict=True,
                    )
                )
                for part in parts
            ]
        )
    assert held_out[0] == held_out[1]
    assert len(held_out[0][1]) > 300


# --- through RecBole's loaders


@pytest.mark.parametrize("phase", ["valid", "test"])
def test_full_ranking_batches_are_those_of_the_stock_data_set(phase: str) -> None:
    config, ours, our_parts, theirs, their_parts = build_both(
        "SASRec", "ml-100k", {**SMALL_ML_100K, "eval_batch_size": 200}
    )
    loaders = []
    for whole, parts in ((ours, our_parts), (theirs, their_parts)):
        sampler = create_samplers(config, whole, parts)[PARTS.index(phase)]
        loaders.append(get_dataloader(config, phase)(config, parts[PARTS.index(phase)], sampler, shuffle=False))
    assert type(loaders[0]).__name__ == "FullSortEvalDataLoader"
    batches = [list(loader) for loader in loaders]
    assert len(batches[0]) == len(batches[1]) > 1
    for (our_rows, our_history, *our_positive), (rows, history, *positive) in zip(*batches, strict=True):
        assert_same_rows(our_rows, rows)
        assert our_history is history is None
        for mine, stock in zip(our_positive, positive, strict=True):
            assert torch.equal(mine, stock)


@pytest.mark.parametrize("loss", ["CE", "BPR"])
def test_recboles_training_batches_are_those_of_the_stock_data_set(
    write_inter: Callable[..., dict[str, Any]], loss: str
) -> None:
    settings: dict[str, Any] = {**write_inter(0), "loss_type": loss, "train_batch_size": 16}
    config, ours, our_parts, theirs, their_parts = build_both("SASRec", "x", settings)
    epochs = []
    for whole, parts in ((ours, our_parts), (theirs, their_parts)):
        np.random.seed(0)  # noqa: NPY002 - RecBole samples negatives from the global state
        torch.manual_seed(0)
        sampler = create_samplers(config, whole, parts)[0]
        epochs.append(list(get_dataloader(config, "train")(config, parts[0], sampler, shuffle=True)))
    assert len(epochs[0]) == len(epochs[1]) > 1
    assert ("neg_item_id" in epochs[0][0]) == (loss == "BPR")
    for mine, stock in zip(*epochs, strict=True):
        assert set(mine.columns) == set(stock.columns)
        for name in stock.columns:
            assert torch.equal(mine[name], stock[name]), name


# --- SequenceInteraction as an Interaction


@pytest.mark.parametrize(
    "index", [slice(2, 9), [4, 1, 1], np.array([5, 0]), torch.tensor([7, 2, 2])], ids=lambda x: type(x).__name__
)
def test_rows_are_indexed_as_recbole_indexes_them(write_inter: Callable[..., dict[str, Any]], index: Any) -> None:
    _, _, ours, _, theirs = build_both("SASRec", "x", write_inter(0))
    mine, stock = ours[0].inter_feat[index], theirs[0].inter_feat[index]
    assert type(mine) is type(stock) is Interaction
    for name in stock.columns:
        assert torch.equal(mine[name], stock[name]), name


def test_rows_are_sorted_stably_and_shuffled_whole(write_inter: Callable[..., dict[str, Any]]) -> None:
    _, ours, _, theirs, _ = build_both("SASRec", "x", write_inter(0))
    for dataset in (ours, theirs):
        dataset.sort(by=["item_id", "timestamp"])
    assert_same_rows(ours.inter_feat, theirs.inter_feat)
    for dataset in (ours, theirs):
        torch.manual_seed(1)
        dataset.shuffle()
    assert_same_rows(ours.inter_feat, theirs.inter_feat)


def test_an_unknown_column_is_a_key_error(write_inter: Callable[..., dict[str, Any]]) -> None:
    _, _, ours, _, _ = build_both("SASRec", "x", write_inter(0))
    assert isinstance(ours[0].inter_feat, SequenceInteraction)
    assert "nothing" not in ours[0].inter_feat
    with pytest.raises(KeyError):
        ours[0].inter_feat["nothing"]
