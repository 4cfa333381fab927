"""The ledger of sources: what is recorded stays, one process at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dataset_prep.fetch.ledger import Ledger, Outcome
from recbole_msm4sr.core.errors import UserError

GOOD = Outcome("ab/abc.jpg", 1234, 40, 30, version="v")
DEAD = Outcome(reason="404 Not Found", detail="gone", permanent=True)
LATE = Outcome(reason="timed out", permanent=False)


def test_an_outcome_is_read_back_as_it_was_recorded(tmp_path: Path) -> None:
    with Ledger(tmp_path / "prep" / "ledger.sqlite") as ledger:
        ledger.start_run()
        assert ledger.get("http://a/1") is None
        for source, outcome in (("http://a/1", GOOD), ("http://a/2", DEAD), ("/ä/'3\".jpg", LATE)):
            ledger.record(source, outcome)
    with Ledger(tmp_path / "prep" / "ledger.sqlite") as ledger:
        for source, outcome in (("http://a/1", GOOD), ("http://a/2", DEAD), ("/ä/'3\".jpg", LATE)):
            entry = ledger.get(source)
            assert entry is not None
            assert (entry.outcome, entry.tries) == (outcome, 1)


def test_tries_and_runs_are_counted(tmp_path: Path) -> None:
    for run in (1, 2, 3):
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            ledger.start_run()
            assert ledger.run == run
            ledger.record("http://a", LATE if run < 3 else GOOD)
            entry = ledger.get("http://a")
            assert entry is not None
            assert (entry.tries, entry.run) == (run, run)
    assert entry.outcome == GOOD


def test_what_was_recorded_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    script = f"""
import sys, time
from pathlib import Path
from dataset_prep.fetch.ledger import Ledger, Outcome
ledger = Ledger(Path({str(path)!r}))
ledger.start_run()
for number in range(500):
    ledger.record(f"http://a/{{number}}", Outcome(f"{{number}}.jpg"))
print("recorded", flush=True)
time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "recorded\n"
        with pytest.raises(UserError, match="another run"):
            Ledger(path)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    with Ledger(path) as ledger:
        ledger.start_run()
        assert ledger.run == 2
        for number in range(500):
            entry = ledger.get(f"http://a/{number}")
            assert entry is not None
            assert entry.outcome.picture == f"{number}.jpg"


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite"), pytest.raises(UserError, match="another run is fetching"):
        Ledger(tmp_path / "ledger.sqlite")
    Ledger(tmp_path / "ledger.sqlite").close()


def test_threads_share_one_ledger(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.start_run()

        def record(thread: int) -> None:
            for number in range(50):
                ledger.record(f"{thread}/{number}", GOOD)
                ledger.record("shared", LATE)

        threads = [threading.Thread(target=record, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shared = ledger.get("shared")
        assert shared is not None
        assert shared.tries == 200
        assert all(ledger.get(f"{thread}/{number}") is not None for thread in range(4) for number in range(50))


@pytest.mark.parametrize("content", [b"no data base at all, " * 100, b"SQLite format 3\x00" + bytes(200)])
def test_a_damaged_ledger_is_a_user_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(UserError, match="remove it"):
        Ledger(path)
    assert path.read_bytes() == content


def test_a_ledger_of_another_format_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger._base.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="format 99"):
        Ledger(path)
