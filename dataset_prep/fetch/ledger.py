"""What became of every URL and file that was asked for a picture: a SQLite data base that survives kill -9."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Self

from dataset_prep.readable import displayable
from recbole_msm4sr.core.errors import UserError

_FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS sources (
    source TEXT PRIMARY KEY,     -- URL or absolute path
    picture TEXT,                -- name in the store; NULL: failed
    n_bytes INTEGER NOT NULL,
    reason TEXT,                 -- why it failed; NULL: stored
    detail TEXT NOT NULL,
    permanent INTEGER NOT NULL,  -- whether asking again is pointless
    version TEXT NOT NULL,       -- a file's size and time
    asked REAL NOT NULL,         -- when, in seconds since 1970
    width INTEGER NOT NULL,      -- this and the others: of earlier versions, 0
    height INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    run INTEGER NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Outcome:
    """What a source gave: a picture (its name in the store, and bytes), or the reason why there is none."""

    picture: str | None = None
    n_bytes: int = 0
    reason: str | None = None
    detail: str = ""
    permanent: bool = False
    version: str = ""


_OUTCOME = ", ".join(field.name for field in fields(Outcome))
_SELECT = f"SELECT {_OUTCOME} FROM sources WHERE source = ?"
_RECORD = f"""
INSERT OR REPLACE INTO sources (source, {_OUTCOME}, asked, width, height, tries, run)
VALUES (?, {", ".join("?" * len(fields(Outcome)))}, ?, 0, 0, 0, 0)
"""


class Ledger:
    """What is known of every source. Each record is a transaction of its own, so a killed run loses none.

    Safe for threads. One process at a time holds the file; the lock goes with the process.

    Raises:
        UserError: from all methods: another process holds the file, it is not a ledger or is damaged, or the disk is
            full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            self._base = sqlite3.connect(path, timeout=0.3, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except BaseException:
            self._base.close()
            raise

    def _open(self) -> None:
        # Held by one process, the write-ahead log needs no shared memory, which network disks do not offer.
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL"):
            self._execute(f"PRAGMA {pragma}")
        [(version,)] = self._execute("PRAGMA user_version")
        if version not in (0, _FORMAT):
            raise UserError(
                f"{self.path} has format {version}, not {_FORMAT}: use the version that wrote it, or remove it"
            )
        with self._errors():
            self._base.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_FORMAT}; COMMIT;")

    def get(self, source: str) -> Outcome | None:
        """What a source gave; None if it was never asked."""
        found = self._execute(_SELECT, source)
        return Outcome(*found[0]) if found else None

    def record(self, source: str, outcome: Outcome) -> None:
        """Write down what a source gave."""
        self._execute(_RECORD, source, *astuple(outcome), time.time())

    def close(self) -> None:
        """Close the file, so that other processes can have it."""
        self._base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _execute(self, statement: str, *values: Any) -> list[Any]:
        with self._lock, self._errors():
            return self._base.execute(statement, values).fetchall()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter from messages about damaged names
            text = displayable(str(error), 200)
            if "locked" in text:
                problem = "is in use by another process, which fetches pictures for this data set: wait for its end"
            elif "full" in text or "readonly" in text or "disk I/O" in text:
                problem = f"cannot be written ({text}): make room on the disk, and run the command again"
            else:
                problem = f"cannot be read ({text}): if it is damaged, remove it, and all pictures are asked for again"
            raise UserError(f"{self.path} {problem}") from error
