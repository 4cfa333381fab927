"""The ledger of sources: what is recorded stays, one process at a time."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dataset_prep.fetch.ledger import Ledger, Outcome
from recbole_msm4sr.core.errors import UserError

GOOD = Outcome("ab/abc.jpg", 1234, version="v")
DEAD = Outcome(reason="404 Not Found", detail="gone", permanent=True)
LATE = Outcome(reason="timed out", permanent=False)
SOURCES = {"http://a/1": GOOD, "http://a/2": DEAD, "/ä/'3\".jpg": LATE}


def test_an_outcome_is_read_back_as_it_was_recorded(tmp_path: Path) -> None:
    with Ledger(tmp_path / "prep" / "ledger.sqlite") as ledger:
        assert ledger.get("http://a/1") is None
        for source, outcome in SOURCES.items():
            ledger.record(source, outcome)
    with Ledger(tmp_path / "prep" / "ledger.sqlite") as ledger:
        assert {source: ledger.get(source) for source in SOURCES} == SOURCES
        ledger.record("http://a/2", GOOD)
        assert ledger.get("http://a/2") == GOOD


def test_what_was_recorded_survives_kill_9_and_the_lock_does_not(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    script = f"""
import time
from pathlib import Path
from dataset_prep.fetch.ledger import Ledger, Outcome
ledger = Ledger(Path({str(path)!r}))
for number in range(500):
    ledger.record(f"http://a/{{number}}", Outcome(f"{{number}}.jpg"))
print("recorded", flush=True)
time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "recorded\n"
        with pytest.raises(UserError, match="in use by another process"):
            Ledger(path)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    with Ledger(path) as ledger:
        for number in range(500):
            assert ledger.get(f"http://a/{number}") == Outcome(f"{number}.jpg")


def test_threads_share_one_ledger(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:

        def record(thread: int) -> None:
            for number in range(50):
                ledger.record(f"{thread}/{number}", GOOD)
                ledger.record("shared", LATE)

        threads = [threading.Thread(target=record, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(ledger.get(f"{thread}/{number}") is not None for thread in range(4) for number in range(50))


@pytest.mark.parametrize("content", [b"no data base at all, " * 100, b"SQLite format 3\x00" + bytes(200)])
def test_a_damaged_ledger_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(UserError, match="remove it"):
        Ledger(path)
    assert path.read_bytes() == content


def test_a_ledger_whose_rows_are_damaged_is_a_user_error_when_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    sources = [f"http://a/{number:04}" for number in range(1000)]
    with Ledger(path) as ledger:
        for source in sources:
            ledger.record(source, DEAD)
    content = path.read_bytes()
    path.write_bytes(content[: 3 * 4096] + b"\xff" * (len(content) - 3 * 4096))
    with pytest.raises(UserError, match=r"ledger\.sqlite cannot be read .*remove it"), Ledger(path) as ledger:  # noqa: PT012
        for source in sources:
            ledger.get(source)


def test_a_ledger_of_an_earlier_version_is_read_and_continued(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / "ledger.sqlite")
    base.executescript(
        "CREATE TABLE runs (number INTEGER PRIMARY KEY, started REAL NOT NULL);"
        "CREATE TABLE sources (source TEXT PRIMARY KEY, picture TEXT, n_bytes INTEGER NOT NULL, width INTEGER NOT NULL,"
        "height INTEGER NOT NULL, reason TEXT, detail TEXT NOT NULL, permanent INTEGER NOT NULL, version TEXT NOT NULL,"
        "tries INTEGER NOT NULL, run INTEGER NOT NULL, asked REAL NOT NULL) WITHOUT ROWID;"
        "INSERT INTO sources VALUES ('http://a', 'ab/abc.jpg', 1234, 40, 30, NULL, '', 0, 'v', 2, 7, 1.5);"
        "PRAGMA user_version = 1;"
    )
    base.close()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.get("http://a") == GOOD
        ledger.record("http://b", DEAD)
        assert ledger.get("http://b") == DEAD


def test_what_is_not_a_ledger_of_this_format_is_a_user_error(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / "ledger.sqlite")
    base.execute("PRAGMA user_version = 99")
    base.close()
    with pytest.raises(UserError, match="format 99"):
        Ledger(tmp_path / "ledger.sqlite")
    with pytest.raises(UserError, match="cannot be read"):
        Ledger(tmp_path)
