"""checks, filtering, negatives: settings and data that would fail later, or mislead, are one line before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data import loading
from recbole_msm4sr.data.feature_store import FeatureStore

HEADER = "user_id:token\titem_id:token\ttimestamp:float"
ROWS = [
    (f"u{u:02}", f"i{(u * 3 + t * (1 + u % 2)) % 30:02}", 1500000000 + u * 10000 + t * 1000)
    for u in range(40)
    for t in range(7)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty data set folder named x."""
    (tmp_path / "data" / "x").mkdir(parents=True)
    return tmp_path / "data" / "x"


def write(path: Path, rows: list[tuple[str, str, float]]) -> None:
    path.write_text("\n".join([HEADER, *("\t".join(map(str, row)) for row in rows), ""]))


def load(folder: Path, model: str = "SASRec", **settings: Any) -> loading.Data:
    given = {"data_path": str(folder.parent), "topk": [5], "valid_metric": "Recall@5", **settings}
    return loading.load(Config(model, "x", config_dict=given))


def refusal(folder: Path, model: str = "SASRec", **settings: Any) -> str:
    """The message with which the data is refused: one line."""
    with pytest.raises(UserError) as caught:
        load(folder, model, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def history(data: loading.Data, user: str) -> list[str]:
    """A user's items by time."""
    flat = loading.all_interactions(data.dataset)
    rows = flat["user_id"] == int(data.dataset.token2id("user_id", user))
    return data.dataset.id2token("item_id", flat["item_id"][rows]).tolist()


# --- what is left out


@pytest.mark.parametrize("model", ["SASRec", "LightGCN"])
@pytest.mark.parametrize("second", [100, 279])
def test_lines_without_user_or_item_are_left_out_and_no_others(folder: Path, model: str, second: int) -> None:
    """RecBole takes row labels for positions: it drops the good line after it, and the bad one becomes [PAD]."""
    rows = [*ROWS]
    rows[2], rows[second] = ("", *rows[2][1:]), (rows[second][0], "", rows[second][2])
    write(folder / "x.inter", rows)
    data = load(folder, model)
    assert len(loading.all_interactions(data.dataset)) == 278
    assert "[PAD]" not in history(data, rows[second][0])
    assert history(data, "u14") == [item for user, item, _ in rows if user == "u14" and item]
    (line,) = data.notes
    assert f"2 of 280 lines are left out: line 4 has no user_id, line {second + 2} has no item_id" in line


def test_items_that_the_item_file_lacks_are_counted_and_another_table(folder: Path) -> None:
    write(folder / "x.inter", ROWS)
    brands = [f"i{i:02}\tb{i % 3}" for i in range(15)]
    (folder / "x.item").write_text("\n".join(["item_id:token\tbrand:token", *brands, brands[0], ""]))
    whole, general = load(folder), load(folder, "LightGCN")
    fewer = load(folder, load_col=None)
    assert whole.notes == []
    repeated, dropped = fewer.notes
    assert "x.item: 1 lines repeat a item_id" in repeated
    assert dropped.startswith("144 of 280 interactions are left out: 15 of 30 items are not in x.item")
    kept = load(folder, load_col=None, filter_inter_by_user_or_item=False)
    for key in ("users_and_targets", "items"):
        assert whole.fingerprint[key] == general.fingerprint[key] == kept.fingerprint[key] != fewer.fingerprint[key]


def test_the_hash_of_users_and_targets_is_of_tokens_and_not_of_their_order(folder: Path) -> None:
    write(folder / "x.inter", ROWS)
    before = load(folder).fingerprint
    write(folder / "x.inter", ROWS[::-1])
    after = load(folder).fingerprint
    assert before.pop("interactions") != after.pop("interactions")
    assert before == after
    write(folder / "x.inter", [*ROWS[:6], ("u00", "i29", ROWS[6][2]), *ROWS[7:]])
    changed = load(folder).fingerprint
    assert (changed["items"], changed["users_and_targets"] != after["users_and_targets"]) == (after["items"], True)


@pytest.mark.parametrize(
    "interval", ["5", 5, "[5", "abc", "", "[9,2]", "(5,5)", "[nan,9]", "[5,inf);x", [1, 2, 3], True]
)
@pytest.mark.parametrize("key", ["user_inter_num_interval", "item_inter_num_interval"])
def test_an_interval_that_cannot_be_read_is_refused(folder: Path, key: str, interval: Any) -> None:
    write(folder / "x.inter", ROWS)
    for model in ("SASRec", "LightGCN"):
        assert refusal(folder, model, **{key: interval}).startswith(f"{key} must be an interval")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"rating": "[3,inf)"}, "val_interval of rating: no such column of tokens or numbers is read"),
        ({"timestamp": "3"}, "val_interval must be"),
        ({"timestamp": "[9,2]"}, "val_interval"),
        ({"timestamp": ["a"]}, "val_interval of timestamp must be an interval"),
        ({"timestamp": None}, "val_interval must be"),
        ({"item_id": "[1,2]"}, "val_interval of item_id must be a list of tokens"),
        ("[3,inf)", "val_interval must be"),
    ],
)
def test_a_val_interval_that_cannot_be_read_is_refused(folder: Path, value: Any, message: str) -> None:
    write(folder / "x.inter", ROWS)
    assert refusal(folder, val_interval=value).startswith(message)


@pytest.mark.parametrize("model", ["SASRec", "LightGCN"])
def test_what_filters_leave_out_is_counted(folder: Path, model: str) -> None:
    write(folder / "x.inter", [*ROWS, ("new", "i00", 1)])
    data = load(
        folder, model, val_interval={"item_id": [f"i{i:02}" for i in range(20)]}, user_inter_num_interval="[3,9]"
    )
    by_value, by_number = data.notes
    assert by_value.startswith("val_interval: ")
    assert "of 281 rows are left out by item_id" in by_value
    assert "their users or items have too few or too many" in by_number
    assert "new" not in data.dataset.field2id_token["user_id"]


# --- split files


def write_split(folder: Path, held_out: tuple[int, int] = (5, 6)) -> None:
    for name, times in (("train", set(range(7)) - {*held_out}), ("valid", {held_out[0]}), ("test", {held_out[1]})):
        write(folder / f"x.{name}.inter", [row for k, row in enumerate(ROWS) if k % 7 in times])


SPLIT = {"benchmark_filename": ["train", "valid", "test"]}


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_split_files_are_the_parts(folder: Path, model: str) -> None:
    write_split(folder)
    write(folder / "x.inter", ROWS[:30])  # another data set's, which is not read
    data = load(folder, model, **SPLIT)
    assert len(loading.all_interactions(data.dataset)) == 280
    train, *held_out = data.parts
    assert len(train) == (200 if model == "BPR" else 160)  # sequences have no pair for a first item
    for time, part in zip((5, 6), held_out, strict=True):
        users, items = (part.id2token(f, part.inter_feat[f]).tolist() for f in ("user_id", "item_id"))
        assert sorted(zip(users, items, strict=True)) == sorted(row[:2] for row in ROWS[time::7])
    if model == "SASRec":
        assert data.parts[2].inter_feat["item_length"].tolist() == [6] * 40


def test_the_fingerprint_is_that_of_the_split_files(folder: Path) -> None:
    write_split(folder)
    sequential, general = load(folder, **SPLIT).fingerprint, load(folder, "BPR", **SPLIT).fingerprint
    assert sequential == general
    write(folder / "x.train.inter", [row for k, row in enumerate(ROWS) if k % 7 < 5 and k != 3])
    changed = load(folder, **SPLIT).fingerprint
    assert changed["interactions"] != sequential["interactions"]
    assert changed["users_and_targets"] == sequential["users_and_targets"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"benchmark_filename": ["train", "valid", "other"]}, "x.other.inter: set data_path"),
        ({"benchmark_filename": ["train", "test"]}, "benchmark_filename must be"),
        ({"benchmark_filename": "train"}, "benchmark_filename must be"),
        ({"benchmark_filename": ["train", "test", "test"]}, "benchmark_filename must be"),
        ({**SPLIT, "user_inter_num_interval": "[5,inf)"}, "user_inter_num_interval has no effect"),
        ({**SPLIT, "eval_args": {"split": {"LS": "valid_and_test"}}}, "leave split out of eval_args"),
    ],
)
def test_split_files_that_cannot_be_used_are_refused(folder: Path, settings: Any, message: str) -> None:
    write_split(folder)
    assert message in refusal(folder, **settings)


def test_split_files_are_checked_like_any_other(folder: Path) -> None:
    write_split(folder)
    with (folder / "x.test.inter").open("a") as file:
        file.write("u0\0\ti1\t1\n")
    assert "x.test.inter, line 42: user_id is 'u0\\x00', which holds a control character" in refusal(folder, **SPLIT)
    (folder / "x.test.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\tlabel:float\n")
    assert "differ in their first lines" in refusal(folder, **SPLIT)


def test_sequences_that_would_train_on_the_future_are_refused(folder: Path) -> None:
    write_split(folder, held_out=(3, 6))
    assert "has an interaction of the file train after one of valid" in refusal(folder, **SPLIT)
    assert len(load(folder, "BPR", **SPLIT).parts[1]) == 40


# --- RecBole's limits


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"topk": [31], "valid_metric": "Recall@31"}, "has 30 items: topk cannot ask for the best 31"),
        ({"eval_args": {"mode": "labeled"}}, "labeled is not supported"),
        ({"eval_args": {"split": {"LS": "valid_only"}}}, "split must be"),
        ({"eval_args": {"split": {"RS": [8]}}}, "split must be"),
        ({"eval_args": {"split": {"RS": [8, 2]}}}, "split must be"),
        ({"load_col": {"inter": ["user_id", "item_id"]}}, "load_col of inter must list user_id, item_id, timestamp"),
        ({"load_col": {"inter": ["user_id", "item_id", "timestamp", "ratin"]}}, "load_col names the column 'ratin'"),
        ({"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]}}, "load_col names 'item'"),
        ({"unload_col": {"inter": ["user_id", "item_id", "timestamp"]}}, "unload_col of inter must not list user_id"),
        ({"unload_col": {"inter": ["ratin"]}}, "unload_col names the column 'ratin'"),
        ({"field_separator": ","}, "has tabs between its columns, and field_separator is ','"),
        ({"additional_feat_suffix": ["link"]}, "additional_feat_suffix names 'link', and there is no file"),
        ({"alias_of_user_id": ["friend"]}, "alias_of_user_id names 'friend'"),
        ({"alias_of_item_id": ["timestamp"]}, "alias_of_item_id names 'timestamp'"),
        ({"normalize_field": ["item_id"]}, "normalize_field names 'item_id'"),
        ({"numerical_features": ["price"]}, "numerical_features names 'price'"),
        ({"seq_len": {"item_id": 3}}, "seq_len names 'item_id'"),
        ({"preload_weight": {"vector_id": "vector"}}, "preload_weight names 'vector_id'"),
        ({"preload_weight": {"item_id": "timestamp"}}, "preload_weight cannot be of item_id"),
        ({"unused_col": {"inter": ["price"]}}, "unused_col of inter names 'price'"),
        ({"user_inter_num_interval": "[99,inf)"}, "no interactions are left: 280 of 280 interactions are left out"),
    ],
)
@pytest.mark.parametrize("model", ["SASRec", "LightGCN"])
def test_what_could_not_be_evaluated_is_refused_before_training(
    folder: Path, model: str, settings: dict[str, Any], message: str
) -> None:
    write(folder / "x.inter", ROWS)
    assert message in refusal(folder, model, **settings)


ALL_ITEMS = [("all", f"i{i:02}", i) for i in range(30)]


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "GRCN", "BERT4Rec", "S3Rec"])
def test_a_user_who_has_every_item_is_refused_where_negatives_are_drawn(folder: Path, model: str) -> None:
    write(folder / "x.inter", [*ROWS, *ALL_ITEMS])
    (folder / "x.item").write_text("item_id:token\tclass:token_seq\n" + "".join(f"i{i:02}\tc\n" for i in range(30)))
    if model == "GRCN":
        vectors = [np.ones((1, 4), dtype=np.float32)] * 30
        FeatureStore.write(folder / "features" / "text", [f"i{i:02}" for i in range(30)], vectors, encoder="ones")
    message = refusal(folder, model, **({"modalities": ["text"]} if model == "GRCN" else {}))
    assert "user 'all' has interacted with all 30 items" in message
    assert 'user_inter_num_interval: "[0,30)"' in message


def test_a_user_who_has_every_item_may_stay_where_none_is_drawn(folder: Path) -> None:
    write(folder / "x.inter", [*ROWS, *ALL_ITEMS])
    assert len(load(folder).parts[2]) == 41
    assert "user 'all'" in refusal(folder, eval_args={"mode": "uni10"})
    assert len(load(folder, "BPR", user_inter_num_interval="[0,30)").parts[2]) == 40


# --- sampled evaluation


def sampled(folder: Path, model: str, mode: str, phase: int, **settings: Any) -> dict[str, list[str]]:
    """Of every user, the tokens that are scored: the target first."""
    given = {"data_path": str(folder.parent), "topk": [5], "valid_metric": "Recall@5", "eval_args": {"mode": mode}}
    config = Config(model, "x", config_dict={**given, **settings})
    data = loading.load(config)
    scored: dict[str, list[str]] = {}
    for batch, *_ in loading.loaders(config, data)[phase]:
        users, items = (data.dataset.id2token(f, batch[f]) for f in ("user_id", "item_id"))
        for user, item in zip(users, items, strict=True):
            scored.setdefault(user, []).append(item)
    return scored


@pytest.mark.parametrize("mode", ["uni10", "pop10"])
@pytest.mark.parametrize("phase", [1, 2])
def test_sampled_negatives_follow_from_seed_and_data_alone(folder: Path, mode: str, phase: int) -> None:
    write(folder / "x.inter", ROWS)
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    once = sampled(folder, "SASRec", mode, phase)
    np.random.seed(2)  # noqa: NPY002
    for model in ("SASRec", "BPR"):
        assert sampled(folder, model, mode, phase) == once
    assert sampled(folder, "SASRec", mode, phase, seed=7) != once
    known = {user: {item for u, item, _ in ROWS if u == user} for user in once}
    later = {user: set() if phase == 2 else {items[6]} for user, items in _items_of_users().items()}
    for user, (target, *negatives) in once.items():
        assert target == _items_of_users()[user][4 + phase]
        assert len(negatives) == 10
        assert not (known[user] - later[user]) & set(negatives)


def _items_of_users() -> dict[str, list[str]]:
    return {user: [item for u, item, _ in ROWS if u == user] for user, _, _ in ROWS}
