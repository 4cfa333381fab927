"""Checkpoints: safe to load, whole or absent."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.utils import ModelType
from scipy import sparse

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.training import checkpoint

CPU = torch.device("cpu")


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    matrix = sparse.csr_matrix(np.array([[0.0, 2.0], [3.0, 0.0]]))
    content = {
        "state_dict": OrderedDict(weight=torch.arange(3.0)),
        "array": np.arange(4),
        "matrix": matrix,
        "score": np.float64(0.25),
        "nested": {"list": [1, "two", None, True], "tuple": (1, 2)},
    }
    checkpoint.save(tmp_path / "a.pth", content)
    loaded = checkpoint.load(tmp_path / "a.pth")
    assert torch.equal(loaded["state_dict"]["weight"], torch.arange(3.0))
    assert (loaded["array"] == np.arange(4)).all()
    assert (loaded["matrix"] != matrix).nnz == 0
    assert type(loaded["score"]) is float
    assert loaded["nested"] == content["nested"]


def test_a_checkpoint_is_readable_with_weights_only(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a.pth", {"state_dict": {}, "device": torch.device("cpu"), "type": ModelType.SEQUENTIAL})
    assert torch.load(tmp_path / "a.pth", weights_only=True)["device"] == "cpu"


def test_a_value_without_a_plain_form_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot hold a object"):
        checkpoint.save(tmp_path / "a.pth", {"state_dict": {}, "thing": object()})
    assert list(tmp_path.iterdir()) == []


class _Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.marker,))  # type: ignore[return-value]


def test_a_malicious_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"state_dict": _Attack(marker)}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="not a checkpoint that can be read safely"):
        checkpoint.load(tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(_Attack(marker)))
    with pytest.raises(UserError, match="read safely"):
        checkpoint.load(tmp_path / "evil.pkl")
    assert not marker.exists()


def rewrite(path: Path, change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None]) -> None:
    """Write every entry of a checkpoint again, as ``change`` does it."""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in entries:
            change(archive, entry, content)


def with_pickle(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, content: bytes) -> None:
        archive.writestr(entry.filename, change(content) if entry.filename.endswith("data.pkl") else content)

    return lambda path: rewrite(path, write)


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


#: A storage of 3 numbers that says it has 2**40.
BEYOND_THE_END = (b"K\x03t", b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"t")
DEEP = b"\x80\x02}(" + text("state_dict") + b"}" + text("deep") + b"]" * 100_000 + b"a" * 99_999 + b"u."


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"not a checkpoint"),
    "head of a zip file": lambda path: path.write_bytes(b"PK\x03\x04 cut"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "legacy": lambda path: torch.save({"state_dict": {}}, path, _use_new_zipfile_serialization=False),
    "compressed": lambda path: rewrite(
        path, lambda archive, entry, content: archive.writestr(entry.filename, content, zipfile.ZIP_DEFLATED)
    ),
    "beyond the end": with_pickle(lambda content: content.replace(*BEYOND_THE_END)),
    "deep": with_pickle(lambda content: DEEP),
    "list": lambda path: torch.save([1], path),
    "no tensors": lambda path: torch.save({"state_dict": {"a": "b"}}, path),
    "newer": lambda path: torch.save({"state_dict": {}, "format_version": 99}, path),
    "version": lambda path: torch.save({"state_dict": {}, "format_version": "a"}, path),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "absent": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    path = tmp_path / "a.pth"
    checkpoint.save(path, {"state_dict": {"weight": torch.arange(3.0)}})
    damage(path)
    with pytest.raises(UserError, match=r"a\.pth") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


def test_a_bit_that_flips_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path, weight = tmp_path / "a.pth", torch.arange(100.0)
    checkpoint.save(path, {"state_dict": {"weight": weight}})
    whole, found = path.read_bytes(), 0
    assert whole.count(weight.numpy().tobytes()) == 1
    inside = range(whole.index(weight.numpy().tobytes()), len(whole))
    for position in [*range(0, len(whole), 41), *inside[:400:7]]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        try:
            assert torch.equal(checkpoint.load(path)["state_dict"]["weight"], weight)
        except UserError:
            found += 1
            continue
        assert position not in inside[:400]
    assert found > 58


def test_a_failed_write_keeps_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    checkpoint.save(path, {"state_dict": {}, "epoch": 1})

    def fill_the_disk(content: object, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", fill_the_disk)
    with pytest.raises(UserError, match="is the disk full"):
        checkpoint.save(path, {"state_dict": {}, "epoch": 2})
    monkeypatch.undo()
    assert checkpoint.load(path)["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002 - RecBole draws from it

    checkpoint.save(tmp_path / "a.pth", {"state_dict": {}, "random": checkpoint.random_state(CPU)})
    expected = [draw() for _ in range(3)]
    checkpoint.restore_random_state(checkpoint.load(tmp_path / "a.pth")["random"], CPU)
    assert [draw() for _ in range(3)] == expected


def test_a_gpu_is_not_touched_by_training_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for the state of its generator would open a CUDA context, of some hundred MiB."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("get_rng_state", "get_rng_state_all", "set_rng_state", "set_rng_state_all"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: pytest.fail("the GPU was touched"))
    checkpoint.restore_random_state({**checkpoint.random_state(CPU), "cuda": torch.zeros(16)}, CPU)
