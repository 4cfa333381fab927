"""atomic_file: the first bad line is named, and lines that cannot be judged are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.atomic_file import find_bad_number, find_short_line, read_header

HEADER = "user_id:token\titem_id:token\ttimestamp:float"
NUMBERS: dict[int, tuple[str, str | None]] = {2: ("timestamp", None)}


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([HEADER, *lines, ""]))
    return path


def test_the_header_is_split_and_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.inter"
    path.write_bytes("usér,item\r\n1,2\r\n".encode("latin-1"))
    assert read_header(path, ",", "latin-1") == ["usér", "item"]
    with pytest.raises(UserError, match="unknown encoding: klingon"):
        read_header(path, ",", "klingon")


def test_a_short_line_is_named_with_what_it_should_have(tmp_path: Path) -> None:
    path = write(tmp_path / "x.inter", "a\tb\t1", "", "a\tb", "a")
    fault = find_short_line(path, "\t", None)
    assert fault is not None
    assert fault.startswith(f"{path}, line 4: cells are missing, there are 2 of 3 (user_id:token, ")


@pytest.mark.parametrize("lines", [["a\tb\t1", "a\tb\t"], ["a\tb\t1\textra"], ["  ", ""], ['"a\nb"\tc\t1'], []])
def test_lines_that_only_look_odd_are_no_short_lines(tmp_path: Path, lines: list[str]) -> None:
    assert find_short_line(write(tmp_path / "x.inter", *lines), "\t", None) is None


def test_a_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.inter", "a\tb\t1", "a\tb\tyesterday", "a\tb\tnever")
    fault = find_bad_number(path, "\t", None, NUMBERS)
    assert fault is not None
    assert fault.startswith(f"{path}, line 3: timestamp must be a number, not 'yesterday': ")


@pytest.mark.parametrize("cell", ["", "NaN", "1e3", "-.5", "inf"])
def test_missing_and_unusual_numbers_are_no_fault(tmp_path: Path, cell: str) -> None:
    assert find_bad_number(write(tmp_path / "x.inter", f"a\tb\t{cell}", "a"), "\t", None, NUMBERS) is None


def test_several_numbers_in_a_cell_are_looked_at_one_by_one(tmp_path: Path) -> None:
    path = write(tmp_path / "x.inter", "a\tb\t1 2  3", "a\tb\t1 x")
    fault = find_bad_number(path, "\t", None, {2: ("sizes", " ")})
    assert fault is not None
    assert "line 3: sizes must be a number, not 'x'" in fault
    assert "line 2: timestamp must be a number, not '1 2  3'" in str(find_bad_number(path, "\t", None, NUMBERS))
