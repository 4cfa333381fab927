"""Damaged files of vectors: imported as they are, or refused by name."""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from damage import Damage, bytes_damage, damaged, inputs
from hypothesis import given
from hypothesis import strategies as st
from outcome import outcome_of

from recbole_msm4sr.cli import main

_TOKENS = [f"i{item}" for item in range(6)]
_VECTORS = np.arange(24, dtype=np.float32).reshape(6, 4)


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, item_id=np.array(_TOKENS), offsets=np.arange(7), vectors=_VECTORS)
    return file.getvalue()


def _compressed_npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, item_id=np.array(_TOKENS), offsets=np.arange(7), vectors=_VECTORS)
    return file.getvalue()


def _pickle() -> bytes:
    return pickle.dumps({token: [vector] for token, vector in zip(_TOKENS, _VECTORS, strict=True)})


def _feat1cls() -> bytes:
    return _VECTORS.tobytes()


_FORMATS = {"a.npz": _npz(), "b.npz": _compressed_npz(), "c.pkl": _pickle(), "d.feat1CLS": _feat1cls()}


def _import(name: str, content: bytes, items: bytes) -> None:
    shutil.rmtree("out", ignore_errors=True)
    Path(name).write_bytes(content)
    Path("x.item2index").write_bytes(items)
    argv = ["features", "import", name, "--out", "out"]
    if name.endswith("CLS"):
        argv += ["--items", "x.item2index"]
    outcome = outcome_of(main, argv, [name, "x.item2index"])
    assert outcome.works == Path("out/manifest.json").is_file()
    assert not list(Path().glob(".out*")), "something half-written is left"
    if outcome.works:
        assert outcome_of(main, ["features", "info", "out"], []).works


_ITEMS = "".join(f"{token}\t{number}\n" for number, token in enumerate(_TOKENS)).encode()


@inputs(16)
@given(st.sampled_from(sorted(_FORMATS)), st.lists(bytes_damage, max_size=2), st.lists(bytes_damage, max_size=1))
def test_vectors(name: str, damages: list[Damage], damages_of_items: list[Damage]) -> None:
    _import(name, damaged(_FORMATS[name], damages), damaged(_ITEMS, damages_of_items))


@pytest.mark.parametrize("depth", [1_000, 20_000, 200_000])
def test_a_pickle_of_nested_tuples(depth: int) -> None:
    content = pickle.PROTO + b"\x02" + b"(" * 0 + b")" + b"\x85" * depth + pickle.STOP
    _import("c.pkl", content, _ITEMS)


@pytest.mark.parametrize(
    "shape", ["(-1, 4)", "(1000000000000, 4)", "(6, 4, 4)", "6", "(6.0, 4)", "(" * 5000, "(True, 4)"]
)
def test_a_shape_that_the_file_does_not_hold(shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    array = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + _VECTORS.tobytes()
    content = io.BytesIO(_npz())
    with zipfile.ZipFile(content) as whole, zipfile.ZipFile("changed.npz", "w") as changed:
        for part in whole.namelist():
            changed.writestr(part, array if part == "vectors.npy" else whole.read(part))
    outcome = outcome_of(main, ["features", "import", "changed.npz", "--out", "out"], ["changed.npz"])
    assert not outcome.works


@pytest.mark.parametrize(("position", "value"), [(6, 1), (8, 99)])  # the encrypted flag; an unknown compression
def test_a_zip_that_python_cannot_unpack(position: int, value: int) -> None:
    content = bytearray(_npz())
    entry = content.index(b"PK\x01\x02")
    content[position] = content[entry + position + 2] = value
    Path("a.npz").write_bytes(bytes(content))
    assert not outcome_of(main, ["features", "import", "a.npz", "--out", "out"], ["a.npz"]).works
