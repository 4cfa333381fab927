"""Generated data sets have the stated sizes, the shape of real ones, and the same bytes every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.generate import PANTRY, TINY, DatasetSize, draw_items, generate, history_lengths
from recbole_msm4sr.core.files import sha256_of_file
from recbole_msm4sr.data.feature_store import FeatureStore


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256_of_file(file) for file in folder.rglob("*") if file.is_file()}


def test_the_same_size_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = generate(TINY, tmp_path / "a"), generate(TINY, tmp_path / "b")
    assert contents(first) == contents(second)
    other = generate(replace(TINY, seed=1), tmp_path / "c")
    assert contents(other) != contents(first)


def test_what_is_there_is_kept_until_the_size_changes(tmp_path: Path) -> None:
    folder = generate(TINY, tmp_path)
    made = (folder / "bench-tiny.inter").stat().st_mtime_ns
    assert (generate(TINY, tmp_path) / "bench-tiny.inter").stat().st_mtime_ns == made
    generate(replace(TINY, n_interactions=500), tmp_path)
    assert len(pd.read_csv(folder / "bench-tiny.inter", sep="\t")) == 500


def test_the_atomic_file_has_the_stated_counts(tmp_path: Path) -> None:
    frame = pd.read_csv(generate(TINY, tmp_path) / "bench-tiny.inter", sep="\t")
    assert list(frame.columns) == ["user_id:token", "item_id:token", "timestamp:float"]
    assert (len(frame), *frame.iloc[:, :2].nunique()) == (TINY.n_interactions, TINY.n_users, TINY.n_items)
    assert frame.groupby("user_id:token").size().min() >= TINY.shortest
    assert frame["timestamp:float"].is_monotonic_increasing


def test_the_feature_stores_cover_all_items(tmp_path: Path) -> None:
    folder = generate(TINY, tmp_path)
    items = set(pd.read_csv(folder / "bench-tiny.inter", sep="\t")["item_id:token"])
    for modality, fewest, most in TINY.rows:
        store = FeatureStore.open(folder / "features" / modality)
        store.verify()
        assert set(store.item_tokens) == items
        assert store.dim == TINY.dim
        assert set(np.diff(store.offsets)) == set(range(fewest, most + 1))
        assert np.linalg.norm(store.values.astype(np.float64), axis=1).mean() == pytest.approx(1, rel=0.05)


def test_popularity_and_lengths_are_skewed_as_in_real_data() -> None:
    rng = np.random.default_rng(0)
    lengths, items = history_lengths(PANTRY, rng), np.bincount(draw_items(PANTRY, rng))
    assert lengths.sum() == items.sum() == PANTRY.n_interactions
    share = np.cumsum(np.sort(items)[::-1]) / items.sum()
    assert share[len(items) // 100] == pytest.approx(0.23, abs=0.03)
    assert share[len(items) // 2] == pytest.approx(0.79, abs=0.03)
    assert items.min() >= 5
    assert np.quantile(lengths, [0, 0.5, 0.99]) / lengths.mean() == pytest.approx([0.52, 0.83, 3.8], rel=0.1)


def test_too_few_interactions_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        DatasetSize("x", n_users=10, n_items=5, n_interactions=49)
