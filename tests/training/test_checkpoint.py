"""Checkpoints: safe to load, whole or absent."""

from __future__ import annotations

import pickle
import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.utils import ModelType
from scipy import sparse

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.training import checkpoint


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


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_a_broken_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pth"):
        checkpoint.load(tmp_path / "a.pth")


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

    checkpoint.save(tmp_path / "a.pth", {"state_dict": {}, "random": checkpoint.random_state()})
    expected = [draw() for _ in range(3)]
    checkpoint.restore_random_state(checkpoint.load(tmp_path / "a.pth")["random"])
    assert [draw() for _ in range(3)] == expected
