"""The benchmark suite runs in its quick size, and reports every row."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, main, select
from benchmarks.rows import Row, table
from recbole_msm4sr.core.errors import UserError

FIELDS = ["name", "unit", "ours", "reference", "ratio"]


@pytest.fixture(scope="module")
def data_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_writes_rows_named_after_it(name: str, data_path: Path, tmp_path: Path) -> None:
    arguments = [name, "--quick", "--data-path", str(data_path), "--json", str(tmp_path / "rows.json")]
    assert main(arguments) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert rows
    for row in rows:
        assert list(row)[:5] == FIELDS
        assert row["name"].startswith(name)
        assert row["ours"] is None or row["ours"] > 0
        if row["reference"] is None:
            assert row["ratio"] is None
            assert row["note"]
        elif row["ours"] is not None:
            more_is_better = row["unit"].endswith("/s")
            expected = row["ours"] / row["reference"] if more_is_better else row["reference"] / row["ours"]
            assert math.isclose(row["ratio"], expected)
        else:
            assert row["note"]


def test_the_first_row_of_a_comparison_has_the_name_that_was_asked_for(data_path: Path, tmp_path: Path) -> None:
    main(["pretrain vs literal", "--quick", "--data-path", str(data_path), "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"] for row in rows] == ["pretrain vs literal", "pretrain vs literal, peak memory"]
    assert 0 < rows[0]["roofline"]["achieved_bfloat16"] < 1


def test_first_words_select_all_that_begin_with_them() -> None:
    assert select(["evaluation vs literal"]) == ["evaluation vs literal"]
    assert select(["evaluation vs"]) == [name for name in BENCHMARKS if name.startswith("evaluation vs ")]
    assert select(["loading", "pretrain"]) == select(["pretrain", "loading"])
    assert select([]) == list(BENCHMARKS)


def test_an_unknown_name_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain vs literl"]) == 2
    assert capsys.readouterr().err == (
        "error: there is no benchmark 'pretrain vs literl': did you mean 'pretrain vs literal'?\n"
    )
    with pytest.raises(UserError, match="no benchmark 'load': --list shows them"):
        select(["load"])


def test_a_file_that_cannot_be_written_is_known_before_anything_is_measured(
    data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert (
        main(["loading 131k", "--quick", "--data-path", str(data_path), "--json", str(tmp_path / "file/x.json")]) == 2
    )
    output = capsys.readouterr()
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert not output.out


def test_the_names_that_documents_rely_on_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    names = capsys.readouterr().out.splitlines()
    for name in (
        "pretrain vs literal",
        "finetune vs literal",
        "finetune epoch vs stock SASRec",
        "evaluation vs stock SASRec",
        "evaluation vs literal",
        "loading 131k vs stock",
        "loading 1M vs stock",
        "loading 10M",
    ):
        assert name in names


def test_the_recipe_is_skipped_without_the_real_data(tmp_path: Path) -> None:
    main(["recipe", "--data-path", str(tmp_path), "--json", str(tmp_path / "rows.json")])
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["ours"], row["reference"], row["ratio"]) == (None, None, None)
    assert "skipped: there is no prepared data set" in row["note"]


@pytest.mark.parametrize(("unit", "ratio"), [("pairs/s", 0.5), ("users/s", 0.5), ("s", 2.0), ("MiB", 2.0)])
def test_a_ratio_above_one_means_that_ours_is_better(unit: str, ratio: float) -> None:
    assert Row("x", unit, 2.0, 4.0).ratio == ratio


def test_the_table_shows_what_is_missing_and_why() -> None:
    text = table([Row("loading", "s", 1.5, None, {"note": "stock ran out of memory"})])
    assert "1.5" in text
    assert "stock ran out of memory" in text
