"""A record of finished work: read back under the same key; everything damaged counts as not done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recbole_msm4sr.core.done import DoneRecord, key_of, read_json
from recbole_msm4sr.core.errors import InUseError

DAMAGED = {
    "empty": b"",
    "cut": b'{"key": "a", "score": 0.',
    "not UTF-8": '{"key": "a", "score": 0.5, "name": "ä"}'.encode("latin-1"),
    "zeros": bytes(100),
    "list": b"[1, 2]",
    "null": b"null",
    "no checksum": b'{"key": "a", "score": 0.5}',
    "nested deep": b"[" * 100_000,
    "a long number": b'{"key": "a", "score": ' + b"1" * 5000 + b"}",
}


def record(key: str = "a") -> DoneRecord:
    return DoneRecord(Path("work/done.json"), key, {"score": float})


def test_keys_are_equal_for_equal_settings_alone() -> None:
    assert key_of({"a": 1, "b": [2, None]}) == key_of({"b": (2, None), "a": 1})
    assert len({key_of({"a": value}) for value in (1, 2, "1", 1.5, None, [1])}) == 6


def test_work_is_done_once_its_record_is_written_under_the_same_key() -> None:
    assert record().read() is None
    record().write({"score": 0.5, "name": "ä"})
    assert record().read() == {"key": "a", "score": 0.5, "name": "ä"}
    assert record("b").read() is None


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_record_counts_as_not_done(content: bytes) -> None:
    record().write({"score": 0.5})
    record().path.write_bytes(content)
    assert record().read() is None


def test_what_is_not_a_file_is_not_read() -> None:
    os.mkfifo("pipe")
    for path in ("pipe", ".", "/dev/zero", "nothing"):
        assert read_json(Path(path)) is None


def test_one_process_at_a_time_does_the_work() -> None:
    in_use = pytest.raises(InUseError, match="work is in use by another process")
    with record().lock(), in_use, record().lock(wait=False):
        pass
    with record().lock(wait=False):
        pass


def test_a_changed_letter_anywhere_makes_a_record_absent(tmp_path: Path) -> None:
    record = DoneRecord(tmp_path / "summary.json", "a")
    record.write({"score": 0.5, "name": "x"})
    whole = record.path.read_text()
    for old, new in (("score", "scorf"), ("0.5", "0.7"), ('"x"', '"y"')):
        record.path.write_text(whole.replace(old, new))
        assert record.read() is None
    record.path.write_text(whole)
    assert record.read() == {"key": "a", "score": 0.5, "name": "x"}
