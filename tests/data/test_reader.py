"""reader: what is read, what is left out by line, and what is refused by file and line, plain file or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.reader import Format, Table, read_header, read_table

INTER = "user_id:token|item_id:token|timestamp:float"
ITEM = "item_id:token|brand:token|price:float|tags:token_seq|sizes:float_seq"


def write(path: Path, header: str, lines: str | bytes, encoding: str = "utf-8") -> Path:
    body = lines if isinstance(lines, bytes) else lines.encode(encoding)
    path.write_bytes(f"{header}\n".encode(encoding).replace(b"|", b"\t") + body.replace(b"|", b"\t"))
    return path


def read_inter(path: Path, **form: Any) -> Table:
    fields = ["user_id", "item_id", "timestamp"]
    return read_table(path, fields, names=fields[:2], complete=fields[2:], form=Format(**form))


def read_item(path: Path) -> Table:
    return read_table(path, read_header(path), names=["item_id"])


# --- what is read


@pytest.mark.parametrize(
    "lines",
    [
        "a|x|1\nb|y|2.5\n",
        "a|x|1\nb|y|2.5",
        "a|x|1\r\nb|y|2.5\r\n",
        "\na|x|1\n  \n\nb|y|2.5\n\n",
        '"a"|x|1\n"b"|"y"|"2.5"\n',
    ],
    ids=["plain", "no newline at the end", "Windows line ends", "blank lines", "quotes"],
)
def test_the_same_values_are_read_however_they_are_written(tmp_path: Path, lines: str) -> None:
    table = read_inter(write(tmp_path / "x.inter", INTER, lines))
    assert table.left_out is None
    assert list(table.columns["user_id"]) == ["a", "b"]
    assert list(table.columns["item_id"]) == ["x", "y"]
    assert table.columns["timestamp"].tolist() == [1, 2.5]


def test_an_item_file_is_read_with_what_it_lacks(tmp_path: Path) -> None:
    path = write(tmp_path / "x.item", ITEM, 'i1|"say ""b"""|9.5|red  blue|1 2e1\ni2|NA|||\ni3|6" pipe||NA|-1\n')
    columns = read_item(path).columns
    assert list(columns["item_id"]) == ["i1", "i2", "i3"]
    assert columns["brand"].tolist() == ['say "b"', np.nan, '6" pipe']
    assert np.array_equal(columns["price"], [9.5, np.nan, np.nan], equal_nan=True)
    assert columns["tags"] == [["red", "blue"], [], []]
    assert columns["sizes"] == [[1.0, 20.0], [], [-1.0]]


@pytest.mark.parametrize(("separator", "encoding"), [(",", "latin-1"), ("::", "utf-8"), (",", "utf-16"), (",", "gbk")])
def test_other_separators_and_encodings_are_read(tmp_path: Path, separator: str, encoding: str) -> None:
    text = "user_id:token,item_id:token,timestamp:float\nü,x,1\n".replace(",", separator)
    (tmp_path / "x.inter").write_text(text, encoding=encoding)
    assert list(read_inter(tmp_path / "x.inter", separator=separator, encoding=encoding).columns["user_id"]) == ["ü"]


def test_columns_that_are_not_read_are_not_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "x.inter", f"{INTER}|note:token|rating:float", "a|x|1|[PAD]\0|many\n")
    assert list(read_inter(path).columns) == ["user_id", "item_id", "timestamp"]


@pytest.mark.parametrize("end", ["", '"c"|z|4\n'], ids=["plain", "not plain"])
@pytest.mark.parametrize("missing", ["", "NA", "null", "nan"])
def test_lines_without_user_or_item_are_left_out_and_named(tmp_path: Path, missing: str, end: str) -> None:
    lines = f"a|x|1\n{missing}|x|2\nb|{missing}|3\n{missing}|{missing}|3\nb|y|4\n{end}"
    table = read_inter(write(tmp_path / "x.inter", INTER, lines))
    assert list(table.columns["item_id"])[:2] == table.columns["item_id"].categories[:2].tolist() == ["x", "y"]
    assert table.columns["timestamp"].tolist()[:2] == [1, 4]
    lacking = "line 3 has no user_id, line 4 has no item_id, line 5 has no user_id and no item_id"
    assert f"x.inter: 3 of {6 if end else 5} lines are left out: {lacking}" in str(table.left_out)


# --- what is refused

REFUSED_ANYWHERE = {
    "NUL": ("a\0|x|1", "user_id is 'a\\\\x00', which holds a control character"),
    "carriage return": ("a|x\ry|1", "item_id is 'x\\\\ry', which holds a tab or a line break"),
    "vertical tab": ("a|x\x0b|1", "holds a control character"),
    "next line": ("a|x\x85|1", "holds a control character"),
    "line separator": ("a\u2028|x|1", "holds a control character"),
    "padding": ("a|[PAD]|1", "which is RecBole's padding"),
    "blank name": (" |x|1", "user_id is ' ', which is empty"),
    "bytes of latin-1": ("é|x|1".encode("latin-1"), "is not utf-8: set encoding"),
    "a cell missing": ("a|x", "cells are missing, there are 2 of 3"),
    "a cell too many": ("a|x|1|2", "there are too many cells, 4 of 3"),
    "an empty cell too many": ("a|x|1|", "there are too many cells, 4 of 3"),
    "a quote that is not closed": ('"a|x|1', "a quote opens a cell and none closes it on this line"),
    "a quote that is closed late": ('"a|"x|1', "text follows a closing quote"),
    "a quoted separator": ('"a|b"|x|1', "holds a tab"),
    "a quoted quote": ('"""a"|x|1', "starts with a quote"),
    "text for a time": ("a|x|yesterday", "timestamp must be a number, not 'yesterday'"),
    "no time": ("a|x|", "timestamp must be a number, not ''"),
    "decimal comma": ("a|x|1,5", "timestamp must be a number, not '1,5'"),
    "underscore": ("a|x|1_000", "timestamp must be a number, not '1_000'"),
    "a long exponent": ("a|x|1e3900000018", "timestamp must be a number"),  # pandas alone ends in a segmentation fault
    "a long exponent of zero": ("a|x|0e-3900000018", "timestamp must be a number"),
    "hexadecimal": ("a|x|0x10", "timestamp must be a number"),
    "Arabic digits": ("a|x|١", "timestamp must be a number"),
    **{f"time {word}": (f"a|x|{word}", "timestamp must be a number") for word in ("NaN", "inf", "-Infinity", "NA")},
    **{
        f"time {text[:6]}": (f"a|x|{text}", "timestamp must be within float32's")
        for text in ("1e39", "-4e38", "9" * 5000)
    },
}


@pytest.mark.parametrize("others", ["a|x|1\n", '"a"|x|1\n'], ids=["plain", "quotes"])
@pytest.mark.parametrize("name", REFUSED_ANYWHERE)
def test_a_line_that_would_be_misread_is_refused_by_file_and_line(tmp_path: Path, name: str, others: str) -> None:
    line, message = REFUSED_ANYWHERE[name]
    body = line if isinstance(line, bytes) else line.encode()
    path = write(tmp_path / "x.inter", INTER, 3 * others.encode() + body + b"\n" + others.encode())
    with pytest.raises(UserError, match=rf"x\.inter, line 5: .*{message}") as caught:
        read_inter(path)
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)


def test_two_stray_quotes_do_not_swallow_the_lines_between_them(tmp_path: Path) -> None:
    path = write(tmp_path / "x.inter", INTER, 'a|x|1\n"b|x|2\nc|x|3\n"d|x|4\n')
    with pytest.raises(UserError, match="line 3: a quote opens a cell"):
        read_inter(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("i\0|b|1||", "item_id is .* control character"),
        ("i|b\0|1||", "brand is .* control character"),
        ("i|[PAD]|1||", "brand is .* padding"),
        ("i|b|NaN||", r"price must be a number, not 'NaN'"),
        ("i|b|inf||", "price must be a number, not 'inf'"),
        ("i|b|1e39||", "price must be within float32's"),
        ("i|b|cheap||", "price must be a number, not 'cheap'"),
        ("i|b|1|a \x01|", "tags is .* control character"),
        ("i|b|1||1 x", "sizes must be a number, not 'x'"),
        ("i|b|1||1 nan", "sizes must be a number, not 'nan'"),
        ("i|b|1|", "cells are missing, there are 4 of 5"),
        ('i|"b|1||', "a quote opens a cell"),
    ],
)
def test_item_files_are_checked_in_the_same_way(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"x\.item, line 3: {message}"):
        read_item(write(tmp_path / "x.item", ITEM, f"j|b|1|a b|1 2\n{line}\n"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user_id:token|item_id:token|user_id:token", "line 1: the column 'user_id' occurs twice"),
        ("user_id:token|item_id:token|user_id:float", "line 1: the column 'user_id' occurs twice"),
        ("user_id:token|item_id:token|time:double", "'time' is of the type 'double', which does not exist"),
        ("user_id:token|item_id:token|time", "'time' has no type"),
        ("user_id:token|item_id:token|", "'' has no type"),
        ("user_id:token|item_id:token:x", "'item_id' is of the type 'token:x'"),
        ("user_id:token|item_id:token|a\0:token", "line 1: holds a control character"),
        ("user_id:token\ritem_id:token", "line 1: holds a control character"),
        ("\ufeffuser_id:token|item_id:token", "starts with a byte order mark"),
        ("", "has no type"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_header(write(tmp_path / "x.inter", header, ""))


def test_files_and_encodings_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.inter cannot be read: No such file"):
        read_header(tmp_path / "x.inter")
    path = write(tmp_path / "x.inter", INTER, "")
    with pytest.raises(UserError, match="unknown encoding: klingon"):
        read_header(path, form=Format(encoding="klingon"))
    with pytest.raises(UserError, match=r"x\.inter is not utf-16"):
        read_header(path, form=Format(encoding="utf-16"))
