"""plain_reader: a plain file is read as pandas reads it; any other is left to the general parser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_msm4sr.data import plain_reader
from recbole_msm4sr.data.plain_reader import NotPlainError, read_plain

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"
KINDS = ["token", "token", "float"]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def assert_read_as_pandas_reads_it(
    path: Path, kinds: Sequence[str | None] = KINDS, separator: str = "\t", encoding: str | None = None
) -> list[pd.Categorical | np.ndarray]:
    columns = read_plain(path, separator, encoding, kinds)
    frame = pd.read_csv(
        path,
        delimiter=separator,
        header=None,
        skiprows=1,
        usecols=[i for i, kind in enumerate(kinds) if kind],
        dtype={i: object if kind == "token" else np.float64 for i, kind in enumerate(kinds) if kind},
        encoding=encoding,
        float_precision="high",
    )
    assert len(columns) == frame.shape[1]
    for column, name in zip(columns, frame, strict=True):
        expected = frame[name]
        if isinstance(column, pd.Categorical):
            pd.testing.assert_series_equal(pd.Series(column).astype(object), expected, check_names=False)
        else:
            assert column.dtype == np.float64
            np.testing.assert_array_equal(column, expected.to_numpy())
    return columns


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few lines, so that a small file has many."""
    monkeypatch.setattr(plain_reader, "_BLOCK", 100)


TOKENS: dict[str, Callable[[np.random.Generator], str]] = {
    "ids": lambda rng: f"A{rng.integers(30):03}",
    "numbers": lambda rng: rng.choice(["007", "7", "7.0", "07", "1e3", "+7", "inf", "0"]),
    "lengths": lambda rng: "x" * int(rng.integers(1, 65)),
    "equal beginnings": lambda rng: "B" * 8 * int(rng.integers(1, 5)) + rng.choice(["", "1", "12345678", "123456781"]),
    "spaces": lambda rng: rng.choice(["a b", " a b", "a b ", "  ", "a  b", "-"]),
    "words for missing": lambda rng: rng.choice(["", "NA", "nan", "None", "null", "N/A", "none", "NAN", "item"]),
    "letters": lambda rng: rng.choice(["é", "è", "日本", "日本語", "Ünïcödé", "👍", "e\u0301"]),
}
NUMBERS: dict[str, Callable[[np.random.Generator], str]] = {
    "seconds": lambda rng: str(rng.integers(10**9, 2 * 10**9)),
    "few digits": lambda rng: str(rng.integers(0, 10 ** rng.integers(1, 9))),
    "milliseconds": lambda rng: str(rng.integers(10**12, 2 * 10**12)),
    "15 digits": lambda rng: str(rng.integers(10**14, 10**15)),
    "18 digits": lambda rng: str(rng.integers(10**17, 10**18)),
    "leading zeros": lambda rng: rng.choice(["000", "0012", "12", "0"]),
    "decimals": lambda rng: repr(float(rng.random() * 10.0 ** rng.integers(-3, 10))),
    "mixed": lambda rng: rng.choice(["5", "-5", "5.0", "1e3", "-2.5E-3", "", " 7", "+3", ".5", "5."]),
}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("tokens", TOKENS)
def test_tokens_are_read_as_pandas_reads_them(tmp_path: Path, tokens: str) -> None:
    rng = np.random.default_rng(0)
    lines = [f"u{rng.integers(9)}\t{TOKENS[tokens](rng)}\t{rng.integers(99)}\n" for _ in range(300)]
    users, items, _ = assert_read_as_pandas_reads_it(write(tmp_path / "x.inter", HEADER + "".join(lines)))
    assert len(users.categories) == 9  # each token is stored once
    assert len(items.categories) == pd.Series(items).nunique()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("numbers", NUMBERS)
def test_numbers_are_read_bit_for_bit_as_pandas_reads_them(tmp_path: Path, numbers: str) -> None:
    rng = np.random.default_rng(1)
    lines = [f"u{rng.integers(9)}\ti{rng.integers(9)}\t{NUMBERS[numbers](rng)}\n" for _ in range(300)]
    assert_read_as_pandas_reads_it(write(tmp_path / "x.inter", HEADER + "".join(lines)))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("separator", ["\t", ",", " ", "|", "\x01"])
@pytest.mark.parametrize("kinds", [KINDS, ["token", None, "float"], [None, "token", None], ["float", "token", None]])
def test_columns_can_be_skipped_whatever_separates_them(
    tmp_path: Path, separator: str, kinds: Sequence[str | None]
) -> None:
    rng = np.random.default_rng(2)
    rows = [[str(rng.integers(10**3)) for _ in kinds] for _ in range(200)]
    text = "".join(separator.join(row) + "\n" for row in [["a", "b", "c"], *rows])
    assert_read_as_pandas_reads_it(write(tmp_path / "x.inter", text), kinds, separator)


def test_tokens_are_numbered_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.inter", HEADER + "b\tz\t1\na\tz\t2\nb\ty\t3\nc\tx\t4\n")
    users, items, _ = read_plain(path, "\t", None, KINDS)
    assert list(users.categories) == ["b", "a", "c"]
    assert list(items.categories) == ["z", "y", "x"]


@pytest.mark.parametrize("last", ["", "\n"])
def test_the_last_line_may_lack_its_newline(tmp_path: Path, last: str) -> None:
    path = write(tmp_path / "x.inter", HEADER + "a\tb\t1\nc\td\t2" + last)
    users, _, times = assert_read_as_pandas_reads_it(path)
    assert list(users) == ["a", "c"]
    assert times.tolist() == [1, 2]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "UTF8", "iso-8859-1"])
def test_tokens_are_decoded(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "x.inter", HEADER + "é\tü\t1\ne\tu\t2\n", encoding)
    assert list(assert_read_as_pandas_reads_it(path, encoding=encoding)[0]) == ["é", "e"]


def test_bytes_that_are_not_of_the_encoding_are_left_to_the_general_parser(tmp_path: Path) -> None:
    with pytest.raises(NotPlainError):
        read_plain(write(tmp_path / "x.inter", HEADER + "é\tü\t1\n", "latin-1"), "\t", None, KINDS)


NOT_PLAIN = {
    "a quote": 'a\t"b"\t1\n',
    "Windows line ends": "a\tb\t1\r\nc\td\t2\r\n",
    "a null byte": "a\tb\0\t1\n",
    "a missing cell": "a\tb\t1\na\tb\n",
    "a missing cell, another too many": "a\tb\na\tb\t1\t2\n",
    "a cell too many": "a\tb\t1\na\tb\t1\t2\n",
    "a blank line": "a\tb\t1\n\na\tb\t2\n",
    "a long token": f"a\t{'b' * 65}\t1\n",
    "text for a number": "a\tb\tyesterday\n",
    "no lines": "",
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_other_files_are_left_to_the_general_parser(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotPlainError):
        read_plain(write(tmp_path / "x.inter", HEADER + NOT_PLAIN[name]), "\t", None, KINDS)


@pytest.mark.parametrize(("separator", "encoding"), [("::", None), ("¦", None), ("\t", "utf-16"), ("\t", "gbk")])
def test_other_separators_and_encodings_are_left_to_the_general_parser(
    tmp_path: Path, separator: str, encoding: str | None
) -> None:
    rows = ["user_id:token", "item_id:token", "timestamp:float"], ["a", "b", "1"]
    path = write(tmp_path / "x.inter", "".join(separator.join(row) + "\n" for row in rows), encoding or "utf-8")
    with pytest.raises(NotPlainError):
        read_plain(path, separator, encoding, KINDS)


def test_two_tokens_with_the_same_key_are_never_taken_for_one() -> None:
    words = [np.array([5, 9, 5], dtype="<u8"), np.array([0, 0, 0], dtype="<u8")]

    def key(first: int) -> int:
        mixed = first * 0x9E3779B97F4A7C15 % 2**64
        return mixed ^ mixed >> 32

    codes, distinct = plain_reader._number(words)
    assert codes.tolist() == [0, 1, 0]
    assert [word.tolist() for word in distinct] == [[5, 9], [0, 0]]
    words[1][1] = (key(5) - key(9)) % 2**64
    with pytest.raises(NotPlainError):
        plain_reader._number(words)
