"""Fixtures that any test may use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_msm4sr.data.feature_store import FeatureStore

TINY_USERS = 40
TINY_ITEMS = 30
TINY_DIM = {"text": 8, "image": 6}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first: begun last, they would keep one process busy while the others have nothing to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def quiet_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and a current folder of its own: RecBole writes ./log_tensorboard, ./saved and ./log."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny_dataset(tmp_path: Path) -> tuple[Path, str]:
    """A prepared data set folder with features, as ``(data_path, name)``: ``data_path/name/name.inter``.

    40 users with 4 to 14 items of 30; the next item is mostly the current one plus one, so that there is something to
    learn. Timestamps tie often and the rows are shuffled. Text has 1 to 3 vectors of 8 numbers an item; images have 0
    to 2 of 6, so some items lack the image. Both stores list the items in an order of their own.
    """
    name = "tiny"
    rng = np.random.default_rng(2024)
    rows = []
    for user in range(TINY_USERS):
        item = int(rng.integers(TINY_ITEMS))
        for time in range(int(rng.integers(4, 15))):
            rows.append(f"u{user}\ti{item}\t{time // 2 * 1000}\n")
            item = (item + (1 if rng.random() < 0.8 else int(rng.integers(TINY_ITEMS)))) % TINY_ITEMS
    folder = tmp_path / "data" / name
    folder.mkdir(parents=True)
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    (folder / f"{name}.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(shuffled))

    for modality, fewest in (("text", 1), ("image", 0)):
        items = [f"i{i}" for i in rng.permutation(TINY_ITEMS)]
        counts = rng.integers(fewest, fewest + 3, len(items))
        vectors = [rng.standard_normal((count, TINY_DIM[modality]), dtype=np.float32) for count in counts]
        FeatureStore.write(folder / "features" / modality, items, vectors, encoder="random")
    return tmp_path / "data", name
