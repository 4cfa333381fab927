"""Importers: published feature files are imported unchanged, and no file can make the importer run code."""

from __future__ import annotations

import builtins
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_import import import_mp4sr, import_npz, import_unisrec

DIM = 4
VECTORS = np.arange(6 * DIM, dtype=np.float32).reshape(6, DIM)


def refused(importer: Callable[..., Any], source: Path, message: str, **options: Any) -> None:
    """The import raises one line that matches ``message``, and makes nothing."""
    with pytest.raises(UserError, match=message) as caught:
        importer(source, source.parent / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (source.parent / "out").exists()


# --- .npz


def save_npz(folder: Path, **changes: Any) -> Path:
    arrays: dict[str, Any] = {"item_id": np.array(["b", "a", "c"]), "offsets": np.array([0, 2, 2, 6])}
    arrays = {**arrays, "vectors": VECTORS.astype(np.float16), **changes}
    np.savez(folder / "text.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder / "text.npz"


def test_npz_keeps_items_rows_and_their_order(tmp_path: Path) -> None:
    store = import_npz(save_npz(tmp_path), tmp_path / "out", encoder="sbert", revision="r2")
    assert store.item_tokens == ["b", "a", "c"]
    np.testing.assert_array_equal(store.offsets, [0, 2, 2, 6])
    np.testing.assert_array_equal(store.values, VECTORS)
    assert store.manifest["encoder"] == "sbert"
    assert store.manifest["revision"] == "r2"
    assert store.manifest["options"] == {"imported_from": "text.npz", "format": "npz"}


def test_npz_item_ids_may_be_integers(tmp_path: Path) -> None:
    store = import_npz(save_npz(tmp_path, item_id=np.array([10, 2, 3])), tmp_path / "out")
    assert store.item_tokens == ["10", "2", "3"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item_id": None, "vectors": None}, "lacks item_id, vectors"),
        ({"item_id": np.array(["b", "a", "c"], dtype=object)}, "item_id is an array of Python objects"),
        ({"vectors": np.array([None] * 6)}, "vectors is an array of Python objects"),
        ({"item_id": np.array([["b", "a", "c"]])}, r"item_id is <U1 \[1, 3\]"),
        ({"item_id": np.array([b"b", b"a", b"c"])}, "item_id is .S1"),
        ({"item_id": np.array(["b", "a", "b"])}, "occurs more than once"),
        ({"offsets": np.array([0, 2, 6])}, r"must be integers \[4\]"),
        ({"offsets": np.array([0.0, 2, 2, 6])}, "must be integers"),
        ({"offsets": np.array([0, 2, 2, 5])}, "rise from 0 to the number of vectors, 6"),
        ({"offsets": np.array([0, 4, 2, 6])}, "rise from 0"),
        ({"vectors": VECTORS.ravel()}, r"vectors is float32 \[24\]"),
        ({"vectors": np.full((6, DIM), np.nan)}, "'b' has a NaN"),
    ],
)
def test_npz_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    refused(import_npz, save_npz(tmp_path, **changes), message)


def test_a_damaged_npz_and_another_file_are_refused(tmp_path: Path) -> None:
    file = save_npz(tmp_path)
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-5], b"", b"no archive", pickle.dumps({"a": 1})):
        file.write_bytes(damaged)
        refused(import_npz, file, "truncated or not an .npz file")
    with file.open("wb") as stream:
        np.save(stream, VECTORS)
    refused(import_npz, file, "holds a single array")
    refused(import_npz, tmp_path / "nowhere.npz", "does not exist")


def test_npz_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    file = save_npz(tmp_path)
    blob = bytearray(file.read_bytes())
    blob[blob.index(VECTORS.astype(np.float16).tobytes()) + 5] ^= 1
    file.write_bytes(blob)
    refused(import_npz, file, "truncated or not an .npz file")


# --- MP4SR pickles


def save_pickle(folder: Path, content: Any, protocol: int = 4) -> Path:
    (folder / "desc_emb.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    return folder / "desc_emb.pkl"


MP4SR = {
    "b": [VECTORS[0], VECTORS[1]],  # [dim] each
    "a": [],  # without the modality
    "c": [VECTORS[2:3], VECTORS[3:4]],  # [1, dim] each
    7: np.asfortranarray(VECTORS[4:6]),  # [r, dim]
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_mp4sr_keeps_items_rows_and_their_order(tmp_path: Path, protocol: int) -> None:
    store = import_mp4sr(save_pickle(tmp_path, MP4SR, protocol), tmp_path / "out", encoder="sbert")
    assert store.item_tokens == ["b", "a", "c", "7"]
    np.testing.assert_array_equal(store.offsets, [0, 2, 2, 4, 6])
    np.testing.assert_array_equal(store.values, VECTORS)


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", "<i4"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_mp4sr_reads_any_number_type_and_byte_order(tmp_path: Path, dtype: str, protocol: int) -> None:
    content = {np.str_("b"): (VECTORS.astype(dtype),), np.int64(3): [np.empty((0, DIM), dtype=dtype)]}
    store = import_mp4sr(save_pickle(tmp_path, content, protocol), tmp_path / "out")
    assert store.item_tokens == ["b", "3"]
    np.testing.assert_array_equal(store.values, VECTORS)


@pytest.mark.parametrize(("module", "other"), [(b"numpy.core", b"numpy._core"), (b"numpy._core", b"numpy.core")])
def test_mp4sr_reads_what_numpy_1_and_numpy_2_wrote(tmp_path: Path, module: bytes, other: bytes) -> None:
    file = save_pickle(tmp_path, MP4SR, protocol=2)  # names are lines of text in this protocol
    blob = file.read_bytes().replace(module, other)
    assert other in blob
    file.write_bytes(blob)
    np.testing.assert_array_equal(import_mp4sr(file, tmp_path / "out").values, VECTORS)


class Calls:
    """Pickles as a call of ``function(*arguments)``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("place", ["top", "value", "vector", "key"])
def test_malicious_pickle_is_refused_and_runs_nothing(tmp_path: Path, protocol: int, place: str) -> None:
    mark = tmp_path / "executed"
    for function, argument, named in (
        (os.system, f"touch {mark}", r"(posix|nt)\.system"),
        (builtins.eval, f"open({str(mark)!r}, 'w')", r"(builtins|__builtin__)\.eval"),
        (builtins.exec, f"open({str(mark)!r}, 'w')", r"(builtins|__builtin__)\.exec"),
        (os.mkdir, str(mark), r"(posix|nt)\.mkdir"),
        (np.load, str(mark), r"numpy\.load"),
        (builtins.getattr, "x", r"(builtins|__builtin__)\.getattr"),
    ):
        attack = Calls(function, argument)
        content: Any = {"a": [VECTORS[0]]}
        if place == "top":
            content = attack
        elif place == "value":
            content["b"] = attack
        elif place == "vector":
            content["a"].append(attack)
        else:
            content[attack] = []
        refused(import_mp4sr, save_pickle(tmp_path, content, protocol), f"asks for {named}, which is refused")
        assert not mark.exists()


@pytest.mark.parametrize(
    "blob",
    [
        b"cos\nsystem\n(S'touch executed'\ntR.",
        b"(S'touch executed'\nios\nsystem\n.",  # the INST opcode
        b"\x80\x04\x8c\x05numpy\x8c\x0acore.os.xx\x93.",  # a dotted name
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        b"cnumpy.core.multiarray\n_reconstruct\n}S'__self__'\nNs\x86b.",  # sets an attribute of an admitted name
        b"cnumpy\ndtype\nN}S'__func__'\nNs\x86b.",
        b"cnumpy\ndtype\n)\x81.",  # NEWOBJ of an admitted name
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
        b"Pid\n.",  # a persistent id
    ],
)
def test_handmade_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blob: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "desc_emb.pkl").write_bytes(blob)
    refused(import_mp4sr, tmp_path / "desc_emb.pkl", "refused|truncated or not a pickle")
    assert os.listdir(tmp_path) == ["desc_emb.pkl"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([None, 1]), "arrays of type 'O8', which is refused"),
        (np.zeros(2, dtype=[("x", "f4")]), "arrays of type 'V4', which is refused"),
        (np.zeros(2, dtype="M8[s]"), "arrays of type 'M8', which is refused"),
        (np.zeros(2, dtype=complex), "arrays of type 'c16', which is refused"),
        (np.array(["x", "y"]), "'a' has rows of type <U1"),
        (np.array([True, False]), "'a' has rows of type bool"),
    ],
)
def test_arrays_of_anything_but_numbers_are_refused(tmp_path: Path, protocol: int, array: Any, message: str) -> None:
    refused(import_mp4sr, save_pickle(tmp_path, {"a": [array]}, protocol), message)


def test_a_field_layout_smuggled_into_a_plain_dtype_is_refused(tmp_path: Path) -> None:
    class Smuggled:
        def __reduce__(self) -> Any:
            object_field = {"x": (np.dtype("f4"), 0)}
            return np.dtype, ("f4", False, True), (3, "<", None, ("x",), object_field, 4, 1, 0)

    refused(import_mp4sr, save_pickle(tmp_path, {"a": Smuggled()}, 2), "holds structured arrays")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([("a", VECTORS[0])], "holds a list: it must be a dict"),
        (VECTORS, "it must be a dict"),
        ({("a", 1): [VECTORS[0]]}, "keys must be item tokens"),
        ({True: [VECTORS[0]]}, "keys must be item tokens"),
        ({1: [VECTORS[0]], "1": [VECTORS[1]]}, "'1' occurs more than once"),
        ({"a": 1.0}, "'a' has a float"),
        ({"a": [[1.0, 2.0]]}, "'a' has a list in its list"),
        ({"a": [VECTORS[None]]}, r"'a' has float32 \[1, 6, 4\] in its list"),
        ({"a": [VECTORS[0], VECTORS[0, :2]]}, "'a' has vectors of different lengths"),
        ({"a": [VECTORS[0]], "b": [VECTORS[0, :2]]}, "'b' has vectors of length 2, items before it 4"),
        ({"a": [np.full(DIM, np.inf)]}, "'a' has a NaN or infinite value"),
        ({"a": []}, "no item has any row"),
    ],
)
def test_mp4sr_of_another_structure_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    refused(import_mp4sr, save_pickle(tmp_path, content), message)


def test_mp4sr_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for protocol in (2, 5):
        file = save_pickle(tmp_path, MP4SR, protocol)
        whole = file.read_bytes()
        for length in range(0, len(whole) - 1, 7):
            file.write_bytes(whole[:length])
            refused(import_mp4sr, file, "truncated or not a pickle")
    refused(import_mp4sr, tmp_path / "nowhere.pkl", "does not exist")


# --- UniSRec


def save_unisrec(folder: Path, lines: str = "b\t0\na\t2\nc d\t1\n", values: np.ndarray[Any, Any] = VECTORS[:3]) -> Path:
    values.astype("<f4").tofile(folder / "Pantry.feat1CLS")
    (folder / "Pantry.item2index").write_text(lines, encoding="utf-8")
    return folder / "Pantry.feat1CLS"


def test_unisrec_gives_each_item_the_row_of_its_index(tmp_path: Path) -> None:
    store = import_unisrec(save_unisrec(tmp_path), tmp_path / "out", encoder="bert-base-uncased")
    assert store.item_tokens == ["b", "a", "c d"]
    np.testing.assert_array_equal(store.offsets, [0, 1, 2, 3])
    np.testing.assert_array_equal(store.values, VECTORS[[0, 2, 1]])


def test_unisrec_index_file_and_dim_can_be_named(tmp_path: Path) -> None:
    source = save_unisrec(tmp_path)
    index = (tmp_path / "Pantry.item2index").rename(tmp_path / "elsewhere.txt")
    refused(import_unisrec, source, r"Pantry\.item2index does not exist")
    assert import_unisrec(source, tmp_path / "out", items=index, dim=DIM).dim == DIM


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("b\t0\na\t1\n", "not 2 items of equally many|not 2 items of 4"),
        ("b\t1\na\t2\nc\t3\n", "must be 0 to 2, each once"),
        ("b\t0\na\t1\nc\t1\n", "must be 0 to 2, each once"),
        ("b\t0\na\t1\nb\t2\n", "line 3: item 'b' occurs more than once"),
        ("b\t0\na 1\nc\t2\n", "line 2: 'a 1' is not 'token<TAB>index'"),
        ("b\t0\na\t-1\nc\t2\n", "line 2"),
        ("\n", "does not name any item"),
    ],
)
def test_unisrec_index_that_does_not_fit_is_refused(tmp_path: Path, lines: str, message: str) -> None:
    refused(import_unisrec, save_unisrec(tmp_path, lines), message, dim=DIM)


def test_unisrec_truncated_files_are_refused(tmp_path: Path) -> None:
    source = save_unisrec(tmp_path)
    whole = source.read_bytes()
    for damaged, dim in ((whole[:-1], None), (whole[:-4], None), (whole[:-12], DIM), (b"", None)):
        source.write_bytes(damaged)
        refused(import_unisrec, source, "is it truncated", dim=dim)
    (tmp_path / "Pantry.item2index").write_bytes(b"\xff\xfe\t0\n")
    refused(import_unisrec, source, "is not text")
    refused(import_unisrec, tmp_path / "nowhere.feat1CLS", "does not exist")


# --- sizes and shapes that a file cannot hold


@pytest.mark.parametrize("depth", [1_000, 200_000])
def test_a_pickle_with_nested_tuples_as_a_key_is_refused(tmp_path: Path, depth: int) -> None:
    file = tmp_path / "desc_emb.pkl"
    file.write_bytes(b"\x80\x02})" + b"\x85" * depth + b"K\x01s.")
    refused(import_mp4sr, file, "keys must be item tokens")


@pytest.mark.parametrize("shape", ["(-1, 4)", "(1000000000000, 4)", "6.0", "(" * 5000])
def test_npz_whose_header_announces_what_it_does_not_hold_is_refused(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    file = save_npz(tmp_path)
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["vectors.npy"] = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + bytes(96)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    refused(import_npz, file, "truncated or not an .npz file")


@pytest.mark.parametrize(("position", "value"), [(6, 1), (8, 99)])  # the encrypted flag; an unknown compression
def test_npz_that_python_cannot_unpack_is_refused(tmp_path: Path, position: int, value: int) -> None:
    file = save_npz(tmp_path)
    blob = bytearray(file.read_bytes())
    blob[position] = blob[blob.index(b"PK\x01\x02") + position + 2] = value
    file.write_bytes(blob)
    refused(import_npz, file, "truncated or not an .npz file")
