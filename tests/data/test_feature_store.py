"""FeatureStore: what is written comes back, and what cannot be right is refused without leaving anything behind."""

from __future__ import annotations

import errno
import json
import os
import pickle
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recbole_msm4sr import run
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data import feature_files, feature_store
from recbole_msm4sr.data.feature_store import FeatureStore

TOKENS = ["b", "a", "é 2", "d"]
COUNTS = [2, 0, 1, 3]  # rows per item: "a" lacks the modality
DIM = 5


def rows_of_tokens() -> list[npt.NDArray[np.float32]]:
    """Row r of the whole store is filled with r + 1/4, so that order shows."""
    starts = np.cumsum([0, *COUNTS])
    return [
        np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None] + 0.25, DIM, axis=1)
        for first, count in zip(starts, COUNTS, strict=False)
    ]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.write(tmp_path / "text", TOKENS, rows_of_tokens(), encoder="sbert", revision="r1")


def left_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def edit_manifest(store: FeatureStore, **changes: Any) -> None:
    (store.path / "manifest.json").write_text(json.dumps({**store.manifest, **changes}))


# --- round trip


def test_round_trip_keeps_tokens_order_and_values(store: FeatureStore) -> None:
    opened = FeatureStore.open(store.path)
    assert opened.item_tokens == TOKENS
    assert (opened.n_items, opened.n_rows, opened.dim) == (4, 6, DIM)
    np.testing.assert_array_equal(opened.offsets, [0, 2, 2, 3, 6])
    np.testing.assert_array_equal(opened.values, np.concatenate(rows_of_tokens()))
    for token, rows in zip(TOKENS, rows_of_tokens(), strict=True):
        np.testing.assert_array_equal(opened.rows_of(token), rows)
    opened.verify()


def test_files_on_disk_are_the_contract(store: FeatureStore) -> None:
    assert left_in(store.path) == ["items.txt", "manifest.json", "offsets.npy", "values.npy"]
    manifest = json.loads((store.path / "manifest.json").read_text(encoding="utf-8"))
    assert {key: manifest[key] for key in manifest if key != "checksums"} == {
        "format_version": 1,
        "dim": DIM,
        "dtype": "float16",
        "encoder": "sbert",
        "revision": "r1",
        "options": {},
        "n_items": 4,
        "n_rows": 6,
    }
    assert sorted(manifest["checksums"]) == ["items.txt", "offsets.npy", "values.npy"]
    assert (store.path / "items.txt").read_text(encoding="utf-8") == "b\na\né 2\nd\n"
    offsets, values = np.load(store.path / "offsets.npy"), np.load(store.path / "values.npy")
    assert (offsets.dtype, offsets.shape) == (np.int64, (5,))
    assert (values.dtype, values.shape, values.flags.c_contiguous) == (np.float16, (6, DIM), True)
    assert (store.path / "values.npy").stat().st_size == 128 + 6 * DIM * 2


def test_values_are_memory_mapped_and_read_only(store: FeatureStore) -> None:
    assert isinstance(store.values, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.values[0] = 0


def test_rows_are_streamed_and_not_collected(tmp_path: Path) -> None:
    def many() -> Iterator[npt.NDArray[np.float32]]:
        for _ in range(100):
            yield np.ones((100, 256), dtype=np.float32)  # 100 kB each, 10 MB in all

    tracemalloc.start()
    FeatureStore.write(tmp_path / "text", [str(i) for i in range(100)], many(), encoder="e")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


def test_pickled_copy_maps_the_same_file(store: FeatureStore) -> None:
    blob = pickle.dumps(store)
    assert len(blob) < 1000
    copy = pickle.loads(blob)
    assert isinstance(copy.values, np.memmap)
    assert copy.fingerprint == store.fingerprint


def test_fingerprint_depends_on_content_and_not_on_path_or_encoder(tmp_path: Path, store: FeatureStore) -> None:
    elsewhere = FeatureStore.write(tmp_path / "other", TOKENS, rows_of_tokens(), encoder="another name")
    assert elsewhere.fingerprint == store.fingerprint
    changed = rows_of_tokens()
    changed[0][0, 0] += 1
    assert FeatureStore.write(tmp_path / "third", TOKENS, changed, encoder="sbert").fingerprint != store.fingerprint


# --- select


def test_select_follows_the_order_asked_and_allows_repeats(store: FeatureStore) -> None:
    asked = ["d", "a", "b", "d"]
    offsets, row_index = store.select(asked)
    assert (offsets.dtype, row_index.dtype) == (np.int64, np.int64)
    np.testing.assert_array_equal(offsets, [0, 3, 3, 5, 8])
    np.testing.assert_array_equal(row_index, [3, 4, 5, 0, 1, 3, 4, 5])
    for i, token in enumerate(asked):
        np.testing.assert_array_equal(store.values[row_index[offsets[i] : offsets[i + 1]]], store.rows_of(token))


def test_select_takes_arrays_of_strings_and_nothing_at_all(store: FeatureStore) -> None:
    np.testing.assert_array_equal(store.select(np.array(["é 2", "a"]))[1], [2])
    offsets, row_index = store.select([])
    assert (offsets.tolist(), row_index.tolist()) == ([0], [])


def test_select_says_which_items_are_missing_and_how_to_fix_it(store: FeatureStore) -> None:
    with pytest.raises(UserError) as caught:
        store.select(["b", "w", "x", "y", "z"])
    message = str(caught.value)
    assert "lacks 4 of 5 items (w, x, y, ...)" in message
    assert "set allow_missing_features: true to treat them as items without this modality" in message
    assert "\n" not in message


def test_select_gives_missing_items_no_rows_when_allowed(store: FeatureStore) -> None:
    offsets, row_index = store.select(["x", "d", "y", "b", "z"], allow_missing=True)
    np.testing.assert_array_equal(offsets, [0, 0, 3, 3, 5, 5])
    np.testing.assert_array_equal(row_index, [3, 4, 5, 0, 1])


def test_rows_of_an_unknown_item_is_a_user_error(store: FeatureStore) -> None:
    assert "b" in store
    assert "x" not in store
    with pytest.raises(UserError, match="lacks item 'x'"):
        store.rows_of("x")


# --- input that is refused


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["a", "b", "a", "c"], "'a' occurs more than once"),
        (["a", "", "b", "c"], "is empty"),
        (["a", "x\ny", "b", "c"], "tab or a line break"),
        (["a", "x\ty", "b", "c"], "tab or a line break"),
        (["a", "x\ud800", "b", "c"], "not valid Unicode"),
        ([1, "a", "b", "c"], "is not a string"),
        (["a", "NA", "b", "c"], "stands for a missing value"),
        (["a", "[PAD]", "b", "c"], "is RecBole's padding"),
        (["a", "b", "c"], "more than the 3 item tokens"),
        (["a", "b", "c", "d", "e"], "4 of 5 item tokens"),
    ],
)
def test_tokens_that_cannot_be_stored_are_refused(tmp_path: Path, tokens: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        FeatureStore.write(tmp_path / "text", tokens, rows_of_tokens(), encoder="e")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((1, DIM + 1)), "'d' has vectors of length 6, items before it 5"),
        (np.ones((2, 0)), "'d' has vectors of length 0"),
        (np.ones(DIM), r"'d' has an array of shape \[5\]"),
        (np.full((1, DIM), np.nan), "'d' has a NaN or infinite value"),
        (np.full((1, DIM), -np.inf), "'d' has a NaN or infinite value"),
        (np.full((1, DIM), 1e5), r"'d' has the value 100000, but float16 holds ±65504"),
        (np.full((1, DIM), "x"), "'d' has rows of type <U1"),
        (np.full((1, DIM), None), "'d' has rows of type object"),
    ],
)
def test_rows_that_cannot_be_stored_are_refused_and_name_the_item(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        FeatureStore.write(tmp_path / "text", TOKENS, [*rows_of_tokens()[:3], rows], encoder="e")
    assert left_in(tmp_path) == []


def test_a_store_without_any_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no item has any row"):
        FeatureStore.write(tmp_path / "text", ["a", "b"], [np.empty((0, DIM))] * 2, encoder="e")
    with pytest.raises(UserError, match="no item has any row"):
        FeatureStore.write(tmp_path / "text", [], [], encoder="e")
    assert left_in(tmp_path) == []


def test_an_existing_store_is_replaced_only_on_request(store: FeatureStore) -> None:
    with pytest.raises(UserError, match="exists already"):
        FeatureStore.write(store.path, ["a"], [np.ones((1, 2))], encoder="e")
    replaced = FeatureStore.write(store.path, ["a"], [np.ones((1, 2))], encoder="e", overwrite=True)
    assert (replaced.n_items, replaced.dim) == (1, 2)
    assert left_in(store.path.parent) == ["text"]


def test_overwrite_never_deletes_a_folder_that_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "set.inter").write_text("precious")
    for target in (tmp_path / "data", tmp_path / "data" / "set.inter"):
        with pytest.raises(UserError, match=r"set\.inter"):
            FeatureStore.write(target, ["a"], [np.ones((1, 2))], encoder="e", overwrite=True)
    assert (tmp_path / "data" / "set.inter").read_text() == "precious"


# --- failures midway


@pytest.mark.parametrize("earlier", [False, True])
def test_rows_that_fail_midway_leave_nothing_new(tmp_path: Path, earlier: bool) -> None:
    def failing() -> Iterator[npt.NDArray[np.float32]]:
        yield rows_of_tokens()[0]
        raise RuntimeError("encoder died")

    if earlier:
        FeatureStore.write(tmp_path / "text", ["kept"], [np.ones((1, 2))], encoder="e")
    with pytest.raises(RuntimeError, match="encoder died"):
        FeatureStore.write(tmp_path / "text", TOKENS, failing(), encoder="e", overwrite=True)
    assert left_in(tmp_path) == (["text"] if earlier else [])
    if earlier:
        FeatureStore.open(tmp_path / "text").verify()


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (feature_files, "_npy_header"),  # when values.npy is finished
        (feature_store, "write_tokens"),
        (feature_store, "sha256_of_file"),
    ],
)
def test_a_full_disk_leaves_the_earlier_store_and_no_temporary_files(
    monkeypatch: pytest.MonkeyPatch, store: FeatureStore, module: Any, function: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, function, full)
    for target in (store.path, store.path.parent / "new"):
        with pytest.raises(OSError, match="No space left"):
            FeatureStore.write(target, ["a"], [np.ones((1, 2))], encoder="e", overwrite=True)
    monkeypatch.undo()
    assert left_in(store.path.parent) == ["text"]
    store.verify()


# --- stores that are damaged


def test_verify_names_the_file_that_was_tampered_with(store: FeatureStore) -> None:
    blob = bytearray((store.path / "values.npy").read_bytes())
    blob[-1] ^= 1
    (store.path / "values.npy").write_bytes(blob)
    opened = FeatureStore.open(store.path)  # opening does not hash
    with pytest.raises(UserError, match=r"values\.npy has changed"):
        opened.verify()


def test_verify_names_the_item_with_a_nan(monkeypatch: pytest.MonkeyPatch, store: FeatureStore) -> None:
    values = np.array(store.values)
    values[2, 1] = np.nan
    np.save(store.path / "values.npy", values)
    checksums = {**store.manifest["checksums"], "values.npy": feature_store.sha256_of_file(store.path / "values.npy")}
    edit_manifest(store, checksums=checksums)
    monkeypatch.setattr(feature_store, "_VERIFY_BLOCK", 2 * DIM)  # the NaN lies in the second block
    with pytest.raises(UserError, match="'é 2' has a NaN or infinite value in row 2"):
        FeatureStore.open(store.path).verify()


@pytest.mark.parametrize("name", ["items.txt", "offsets.npy", "values.npy"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "noise"])
def test_a_damaged_file_is_refused_when_opened(store: FeatureStore, name: str, damage: str) -> None:
    file = store.path / name
    whole = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes({"empty": b"", "truncated": whole[:-1], "noise": b"\xff\xfe" * 99}[damage])
    with pytest.raises(UserError, match=name) as caught:
        FeatureStore.open(store.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("offsets.npy", np.array([0, 2, 2, 3, 6], dtype=np.int32)),
        ("offsets.npy", np.array([0, 3, 2, 3, 6])),
        ("offsets.npy", np.array([1, 2, 2, 3, 6])),
        ("offsets.npy", np.array([0, 2, 2, 3, 5])),
        ("offsets.npy", np.array([0, 2, 6])),
        ("values.npy", np.ones((6, DIM), dtype=np.float32)),
        ("values.npy", np.ones((5, DIM), dtype=np.float16)),
        ("values.npy", np.ones(6 * DIM, dtype=np.float16)),
    ],
)
def test_arrays_that_do_not_fit_the_manifest_are_refused(store: FeatureStore, name: str, array: Any) -> None:
    (store.path / name).unlink()
    np.save(store.path / name, array)
    with pytest.raises(UserError, match=name):
        FeatureStore.open(store.path)


def test_tokens_that_do_not_fit_the_manifest_are_refused(store: FeatureStore) -> None:
    for text, message in (("b\na\nd\n", "has 3 items"), ("b\na\na\nd\n", "an item twice")):
        (store.path / "items.txt").write_text(text)
        with pytest.raises(UserError, match=message):
            FeatureStore.open(store.path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format version 2, this program reads 1"),
        ({"dim": "5"}, "no valid dim"),
        ({"n_rows": 0}, "no valid n_rows"),
        ({"dtype": "float32"}, "not float16"),
        ({"checksums": {}}, "lacks the checksums"),
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused(store: FeatureStore, changes: dict[str, Any], message: str) -> None:
    edit_manifest(store, **changes)
    with pytest.raises(UserError, match=message):
        FeatureStore.open(store.path)


def test_a_folder_without_a_readable_manifest_is_not_a_store(tmp_path: Path, store: FeatureStore) -> None:
    with pytest.raises(UserError, match="is not a feature store"):
        FeatureStore.open(tmp_path / "nowhere")
    for text in ('{"dim": 5', "[]"):
        (store.path / "manifest.json").write_text(text)
        with pytest.raises(UserError, match=r"manifest\.json"):
            FeatureStore.open(store.path)


def test_changed_values_are_not_trained_on(tiny_dataset: tuple[Path, str]) -> None:
    data_path, name = tiny_dataset
    values = data_path / name / "features" / "text" / "values.npy"
    content = bytearray(values.read_bytes())
    content[-1] ^= 1
    values.write_bytes(content)
    settings = {"data_path": str(data_path), "use_gpu": False, "epochs": 0, "training": "finetune"}
    with pytest.raises(UserError, match=r"values\.npy has changed since it was written"):
        run("MSM4SR", name, config_dict=settings)


@pytest.mark.parametrize("name", ["items.txt", "offsets.npy", "values.npy", "manifest.json"])
def test_a_pipe_in_the_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    FeatureStore.write(tmp_path / "store", ["a"], [np.ones((1, 2))], encoder="e")
    (tmp_path / "store" / name).unlink()
    os.mkfifo(tmp_path / "store" / name)
    with pytest.raises(UserError, match=name):
        FeatureStore.open(tmp_path / "store")
