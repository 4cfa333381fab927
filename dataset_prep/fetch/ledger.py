"""What became of every URL and file that was asked for a picture: a SQLite data base that survives kill -9."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from recbole_msm4sr.core.errors import UserError

_FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (number INTEGER PRIMARY KEY, started REAL NOT NULL);
CREATE TABLE IF NOT EXISTS sources (
    source TEXT PRIMARY KEY,     -- URL or absolute path
    picture TEXT,                -- name in the store; NULL: failed
    n_bytes INTEGER NOT NULL,
    width INTEGER NOT NULL,      -- as stored, before any turning
    height INTEGER NOT NULL,
    reason TEXT,                 -- why it failed; NULL: stored
    detail TEXT NOT NULL,
    permanent INTEGER NOT NULL,  -- whether asking again is pointless
    version TEXT NOT NULL,       -- what the outcome depends on besides the source: a file's time, limits
    tries INTEGER NOT NULL,      -- how often it was its turn, over all runs
    run INTEGER NOT NULL,        -- the latest run that asked
    asked REAL NOT NULL          -- when, in seconds since 1970
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Outcome:
    """What a source gave: a picture (its name in the store, bytes, pixels), or the reason why there is none."""

    picture: str | None = None
    n_bytes: int = 0
    width: int = 0
    height: int = 0
    reason: str | None = None
    detail: str = ""
    permanent: bool = False
    version: str = ""


@dataclass(frozen=True)
class Entry:
    """A source's latest outcome, how often it was asked, and in which run last."""

    outcome: Outcome
    tries: int
    run: int


_OUTCOME = ", ".join(field.name for field in fields(Outcome))
_SELECT = f"SELECT {_OUTCOME}, tries, run FROM sources WHERE source = ?"
_UPSERT = f"""
INSERT INTO sources (source, {_OUTCOME}, tries, run, asked) VALUES (?, {", ".join("?" * len(fields(Outcome)))}, 1, ?, ?)
ON CONFLICT (source) DO UPDATE SET {", ".join(f"{field.name} = excluded.{field.name}" for field in fields(Outcome))},
    tries = tries + 1, run = excluded.run, asked = excluded.asked
"""


class Ledger:
    """One row per source. Every record is a transaction of its own, so a killed run loses none.

    Safe for threads. One process at a time holds the file; the lock goes with the process.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the ledger.

        Raises:
            UserError: another process holds it, or the file is not a ledger.
        """
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._readable():
            self._base = sqlite3.connect(path, timeout=0.3, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._base.close()
                raise
        self.run = 0  # until start_run

    def _open(self) -> None:
        # Held by one process, the write-ahead log needs no shared memory, which network disks do not offer.
        self._base.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._base.execute("PRAGMA user_version").fetchone()
        if version not in (0, _FORMAT):
            raise UserError(
                f"{self.path} has format {version}, not {_FORMAT}: use the version that wrote it, or remove it"
            )
        self._base.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_FORMAT}; COMMIT;")

    def start_run(self) -> None:
        """Begin a run: what is recorded from now on belongs to it."""
        with self._lock:
            cursor = self._base.execute("INSERT INTO runs (started) VALUES (?)", (time.time(),))
            assert cursor.lastrowid is not None
            self.run = cursor.lastrowid

    def get(self, source: str) -> Entry | None:
        """What is known of a source."""
        with self._lock:
            row = self._base.execute(_SELECT, (source,)).fetchone()
        if row is None:
            return None
        *outcome, tries, run = row
        outcome[6] = bool(outcome[6])
        return Entry(Outcome(*outcome), tries, run)

    def record(self, source: str, outcome: Outcome) -> None:
        """Write down what a source gave.

        Raises:
            sqlite3.OperationalError: the disk is full.
        """
        with self._lock:
            self._base.execute(_UPSERT, (source, *astuple(outcome), self.run, time.time()))

    def close(self) -> None:
        """Close the file and let other processes at it."""
        self._base.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise UserError(f"{self.path} is in use: another run is fetching pictures for this data set") from error
            raise UserError(
                f"{self.path} cannot be opened ({error}): if it is damaged, remove it, and all is asked again"
            ) from error
