"""``read_lines``: plain and compressed files, and what is said of damaged ones."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset_prep.readers.lines import read_lines
from recbole_msm4sr.core.errors import UserError

TEXT = b"".join(b"line %d of the file\n" % number for number in range(5000))


@pytest.mark.parametrize("compressed", [False, True])
def test_every_line_comes_with_its_number(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(gzip.compress(TEXT) if compressed else TEXT)
    assert list(read_lines(path)) == list(enumerate(TEXT.splitlines(keepends=True), start=1))


def test_gzip_files_of_several_members_are_read_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert [line for _, line in read_lines(tmp_path / "a.gz")] == [b"one\n", b"two\n"]


def test_last_line_without_line_break_and_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\ntwo")
    assert list(read_lines(tmp_path / "a")) == [(1, b"one\n"), (2, b"two")]
    (tmp_path / "empty").touch()
    assert list(read_lines(tmp_path / "empty")) == []


def _flip_a_byte(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _clear_checksum(data: bytes) -> bytes:
    return data[:-8] + bytes(8)


@pytest.mark.parametrize("damage", [_cut, _flip_a_byte, _clear_checksum])
def test_damaged_gzip_is_one_clear_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "reviews.json.gz"
    path.write_bytes(damage(gzip.compress(TEXT)))
    with pytest.raises(UserError, match=r"reviews\.json\.gz is damaged or cut off after line .*: fetch the file again"):
        list(read_lines(path))


def test_missing_file_and_endless_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json is not a file"):
        list(read_lines(tmp_path / "nowhere.json"))
    (tmp_path / "long").write_bytes(b"short\n" + b"x" * 11)
    with pytest.raises(UserError, match=r"long:2: the line is longer than 10 bytes"):
        list(read_lines(tmp_path / "long", longest=10))
