"""compat: the replacements read what RecBole's own functions read, can be installed twice, and need no ray."""

from __future__ import annotations

import copy
import importlib.util
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import recbole
from recbole.data import dataset as recbole_datasets
from recbole.utils import FeatureSource
from scipy import sparse

import recbole_msm4sr
from recbole_msm4sr import compat
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.data.dataset import VectorisedSequentialDataset
from recbole_msm4sr.data.processing import load_feat

Dataset = recbole_datasets.Dataset
ML_100K = Path(recbole.__file__).parent / "dataset_example" / "ml-100k"
needs_old_pandas = pytest.mark.skipif(
    int(pd.__version__.split(".")[0]) >= 3, reason="RecBole's own reader does not work with pandas 3"
)
SOURCES = {"inter": FeatureSource.INTERACTION, "user": FeatureSource.USER, "item": FeatureSource.ITEM}
PROPERTIES = ("field2type", "field2source", "field2seqlen", "field2bucketnum")


@pytest.fixture(scope="module")
def original() -> ModuleType:
    """A second copy of RecBole's module, whose Dataset no work-around has touched."""
    path = Path(recbole.__file__).parent / "data" / "dataset" / "dataset.py"
    spec = importlib.util.spec_from_file_location("recbole_dataset_as_shipped", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bare(dataset_class: Any, config: Any) -> Any:
    """A data set that has read nothing yet."""
    data = dataset_class.__new__(dataset_class)
    data.config, data.logger, data.dataset_name = config, logging.getLogger("test_compat"), config["dataset"]
    data._get_preset()
    data._get_field_from_config()
    return data


def assert_same_frame(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    assert list(ours.columns) == list(theirs.columns)
    assert list(ours.index) == list(theirs.index)
    for column in ours:
        if ours[column].dtype != "category":  # as tokens of interactions are read
            assert ours[column].dtype == theirs[column].dtype, column
        for a, b in zip(ours[column], theirs[column], strict=True):
            assert type(a) is type(b), (column, a, b)
            if isinstance(a, np.ndarray):
                assert a.dtype.kind == b.dtype.kind, column
                np.testing.assert_array_equal(a, b)
            else:
                assert a == b or (pd.isna(a) and pd.isna(b)), (column, a, b)


def assert_reads_the_same(original: ModuleType, config: Any, path: Path, source: Any) -> pd.DataFrame:
    ours, theirs = bare(Dataset, config), bare(original.Dataset, config)
    frame = load_feat(ours, str(path), source)
    assert_same_frame(frame, original.Dataset._load_feat(theirs, str(path), source))
    for name in PROPERTIES:
        assert getattr(ours, name) == getattr(theirs, name), name
    return frame


def write_table(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text).replace("|", "\t").lstrip())
    return path


# --- load_feat


@needs_old_pandas
@pytest.mark.parametrize("suffix", ["inter", "user", "item"])
@pytest.mark.parametrize("columns", ["all", "some"])
def test_ml_100k_is_read_as_recbole_reads_it(original: ModuleType, suffix: str, columns: str) -> None:
    some = {"inter": ["user_id", "item_id", "timestamp"], "user": ["user_id", "zip_code"], "item": ["item_id", "class"]}
    load_col = None if columns == "all" else some
    config = Config("SASRec", "ml-100k", config_dict={"load_col": load_col})
    frame = assert_reads_the_same(original, config, ML_100K / f"ml-100k.{suffix}", SOURCES[suffix])
    assert len(frame) == {"inter": 100_000, "user": 943, "item": 1682}[suffix]
    assert len(frame.columns) == (len(some[suffix]) if load_col else {"inter": 4, "user": 5, "item": 4}[suffix])


@needs_old_pandas
@pytest.mark.parametrize("seq_len", [None, {"tags": 2, "sizes": 1}])
def test_sequences_with_missing_values_are_read_as_recbole_reads_them(
    original: ModuleType, tmp_path: Path, seq_len: dict[str, int] | None
) -> None:
    path = write_table(
        tmp_path / "x.item",
        """\
        item_id:token|tags:token_seq|sizes:float_seq|price:float|brand:token
        007|red green blue|1.5 2 1e-3|9.99|NA
        a b||0.1|||
        c|x  y||0.1|1e30
        é|NA|-3|1e-3|None
        """.replace("0.1|||", "0.1||"),
    )
    config = Config("SASRec", "ml-100k", config_dict={"load_col": None, "seq_len": seq_len})
    frame = assert_reads_the_same(original, config, path, FeatureSource.ITEM)
    assert frame["item_id"].tolist() == ["007", "a b", "c", "é"]
    assert [list(tags) for tags in frame["tags"]] == [
        ["red", "green", "blue"][: 2 if seq_len else 3],
        [],
        ["x", "y"],
        [],
    ]
    assert frame["sizes"][2].tolist() == []
    assert np.isnan(frame["price"][1])


@needs_old_pandas
def test_floats_are_read_bit_for_bit_as_recbole_reads_them(original: ModuleType, tmp_path: Path) -> None:
    """RecBole's parser may miss a long decimal by one unit in the last place; so must ours."""
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.uniform(1e9, 2e9, 500), rng.random(500), rng.integers(10**12, 2 * 10**12, 500)])
    path = tmp_path / "x.inter"
    path.write_text("user_id:token\ttimestamp:float\n" + "".join(f"u\t{float(number)!r}\n" for number in numbers))
    config = Config("SASRec", "ml-100k", config_dict={"load_col": None})
    ours = load_feat(bare(Dataset, config), str(path), FeatureSource.INTERACTION)["timestamp"].to_numpy()
    theirs = original.Dataset._load_feat(bare(original.Dataset, config), str(path), FeatureSource.INTERACTION)
    np.testing.assert_array_equal(ours, theirs["timestamp"].to_numpy())
    np.testing.assert_allclose(ours, numbers, rtol=1e-12)


@needs_old_pandas
def test_windows_line_ends_and_other_separators_are_read_as_recbole_reads_them(
    original: ModuleType, tmp_path: Path
) -> None:
    config = Config("SASRec", "ml-100k", config_dict={"load_col": None})
    path = tmp_path / "x.inter"
    path.write_bytes(b"user_id:token\titem_id:token\ttimestamp:float\r\n1\t2\t3\r\n4\t5\t6\r\n")
    assert_reads_the_same(original, config, path, FeatureSource.INTERACTION)
    for separator in (",", "::::"):
        config["field_separator"] = separator
        path.write_text(separator.join(["user_id:token", "timestamp:float"]) + f"\nu{separator}1.5\n")
        assert_reads_the_same(original, config, path, FeatureSource.INTERACTION)


# --- remap

SHARED_IDS = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"], "user": ["user_id", "zip_code", "occupation"]},
    "alias_of_user_id": ["zip_code"],
}


@needs_old_pandas
@pytest.mark.parametrize("settings", [{}, {"load_col": None}, SHARED_IDS], ids=["some", "all", "shared ids"])
@pytest.mark.parametrize("dataset_class", [Dataset, VectorisedSequentialDataset])
def test_ids_are_those_of_recbole_as_shipped(
    original: ModuleType, dataset_class: Any, settings: dict[str, Any]
) -> None:
    settings = {"user_inter_num_interval": "[20,60]", "time_precision": "float32", **settings}
    ours, theirs = (
        kind(Config("SASRec", "ml-100k", config_dict=dict(settings))) for kind in (dataset_class, original.Dataset)
    )
    assert set(ours.field2id_token) == set(theirs.field2id_token) >= {"user_id", "item_id"}
    for field, tokens in theirs.field2id_token.items():
        assert ours.field2id_token[field].dtype == tokens.dtype
        np.testing.assert_array_equal(ours.field2id_token[field], tokens)
        assert ours.field2token_id[field] == theirs.field2token_id[field]
    for name in theirs.feat_name_list:
        assert_same_frame(getattr(ours, name), getattr(theirs, name))


def test_the_numbers_of_tokens_are_made_when_they_are_asked_for() -> None:
    ids = compat.TokenIds(np.array(["[PAD]", "007", "é"]))
    assert "data" not in vars(ids)
    assert "007" in ids
    assert (ids["é"], len(ids), list(ids)) == (2, 3, ["[PAD]", "007", "é"])
    assert ids == {"[PAD]": 0, "007": 1, "é": 2}
    with pytest.raises(KeyError):
        ids["7"]
    ids["new"] = 3  # as RecBole's knowledge graphs add relations
    assert ids["new"] == 3
    assert copy.deepcopy(ids) == ids


def test_loading_does_not_make_the_numbers_of_tokens() -> None:
    data = VectorisedSequentialDataset(Config("SASRec", "ml-100k"))
    data.build()
    assert all("data" not in vars(ids) for ids in data.field2token_id.values())
    assert data.token2id("item_id", data.id2token("item_id", 5)) == 5


# --- fill_nan


@needs_old_pandas
def test_missing_values_are_filled_as_recbole_fills_them(original: ModuleType) -> None:
    def frame() -> pd.DataFrame:
        nothing = float("nan")
        return pd.DataFrame(
            {
                "item_id": [0, 1, 2],
                "brand": [nothing, 3, nothing],
                "price": [nothing, 1.0, 4.0],
                "tags": [nothing, np.array([1, 2]), np.array([], dtype=np.int64)],
                "sizes": [nothing, np.array([0.5]), nothing],
            }
        )

    kinds = {"item_id": "token", "brand": "token", "price": "float", "tags": "token_seq", "sizes": "float_seq"}
    config = Config("SASRec", "ml-100k")
    filled = []
    for dataset_class, fill in ((Dataset, compat.fill_nan), (original.Dataset, original.Dataset._fill_nan)):
        data = bare(dataset_class, config)
        data.feat_name_list, data.item_feat = ["item_feat"], frame()
        data.field2type = {field: compat.FeatureType(kind) for field, kind in kinds.items()}
        fill(data)
        filled.append(data.item_feat)
    assert_same_frame(*filled)
    assert filled[0]["brand"].tolist() == [0, 3, 0]
    assert filled[0]["price"].tolist() == [2.5, 1.0, 4.0]
    assert [len(x) for x in filled[0]["tags"]] == [0, 2, 0]


# --- numpy and SciPy


@pytest.fixture
def without_dok_update(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if hasattr(sparse.dok_matrix, "_update"):
        monkeypatch.delattr(sparse.dok_matrix, "_update")
    yield
    if "_update" in vars(sparse.dok_matrix):
        del sparse.dok_matrix._update


REMOVED_FROM_NUMPY = ("float_", "complex_", "unicode_")


def test_work_arounds_may_be_installed_again() -> None:
    def installed() -> list[Any]:
        names = [getattr(np, name) for name in REMOVED_FROM_NUMPY]
        return [Dataset._load_feat, Dataset._fill_nan, sparse.dok_matrix._update, *names]

    compat.apply()
    before = installed()
    compat.apply()
    assert all(a is b for a, b in zip(before, installed(), strict=True))
    assert Dataset._load_feat is load_feat
    assert Dataset._fill_nan is compat.fill_nan


def test_dok_update_fills_a_matrix_as_recboles_graph_models_expect(without_dok_update: None) -> None:
    compat.restore_dok_update()
    matrix = sparse.dok_matrix((3, 4), dtype=np.float32)
    matrix._update({(0, 1): 1.0, (2, 3): 2.0})
    np.testing.assert_array_equal(matrix.toarray(), [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]])
    assert matrix.tocsr().nnz == 2


def test_numpy_names_come_back_and_existing_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("float_", "complex_"):
        monkeypatch.setattr(np, name, "removed below", raising=False)
        monkeypatch.delattr(np, name)
    monkeypatch.setattr(np, "unicode_", "kept", raising=False)
    compat.restore_numpy_aliases()
    assert [getattr(np, name) for name in REMOVED_FROM_NUMPY] == [np.float64, np.complex128, "kept"]


# --- imports


def test_no_module_of_this_package_imports_ray() -> None:
    code = """
        import importlib, pkgutil, sys
        import recbole_msm4sr
        names = [m.name for m in pkgutil.walk_packages(recbole_msm4sr.__path__, "recbole_msm4sr.")]
        for name in names:
            if not name.endswith("__main__"):
                importlib.import_module(name)
        assert len(names) > 20, names
        print(sorted(name for name in sys.modules if name.split(".")[0] in ("ray", "hyperopt")))
    """
    root = Path(recbole_msm4sr.__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
