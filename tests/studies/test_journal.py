"""Optuna's journal after a process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna

from recbole_msm4sr.studies.journal import open_journal

_HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from recbole_msm4sr.studies.journal import SystemLock
lock = SystemLock(Path("search.journal.lock"))
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_a_killed_process_does_not_leave_the_journal_locked() -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLD_THE_LOCK], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    began = time.monotonic()
    optuna.create_study(storage=open_journal(Path("search.journal")), study_name="a")
    assert time.monotonic() - began < 10


def test_half_a_line_is_dropped() -> None:
    path = Path("search.journal")
    optuna.create_study(storage=open_journal(path), study_name="a")
    size = path.stat().st_size
    with open(path, "ab") as file:
        file.write(b'{"op_code":0,"study')
    optuna.create_study(storage=open_journal(path), study_name="b")
    assert {study.study_name for study in optuna.get_all_study_summaries(open_journal(path))} == {"a", "b"}
    os.truncate(path, size - 3)  # and where it was the first
    assert optuna.get_all_study_summaries(open_journal(path)) == []
