"""One source -> a checked picture in the store, or the reason why there is none; asked once, whoever wants it."""

from __future__ import annotations

import os
import stat
import threading
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.decode import LIMIT_REASONS, TOO_LARGE, BadPicture, PictureLimits, check_picture
from dataset_prep.fetch.errors import FetchError
from dataset_prep.fetch.ledger import Entry, Ledger, Outcome
from dataset_prep.fetch.store import PictureStore

FETCH_SECONDS = 120.0  # of a server's time for one URL, all attempts together
SILENT_LIMIT = 50  # failures in a row, none of them final, after which a host is left alone for this run
_N_LOCKS = 4096  # many more than workers: two sources seldom share one by chance

SILENT_HOST = "not asked: its host failed again and again"
NOT_ASKED = "not asked yet"


class Stopped(Exception):
    """The run is being ended; nothing more is asked."""


@dataclass
class Obtainer:
    """Obtain pictures, from any number of threads.

    Attributes:
        client: asks the sources, which are URLs; None: they are files.
        retry_dead: ask again what failed for good, too.
        counts: of sources, in this run: ``asked``; ``stored`` (new in the store) and ``bytes`` of those; ``reused``
            (known as good, or the same picture lay there); ``dead_skipped`` (known as dead).
        heard: whether any URL came to something in this run, be it a picture or a final refusal.
        latest_failure: the URL that failed last, and why.
        stop: set it, and every call from then on raises Stopped.
    """

    ledger: Ledger
    store: PictureStore
    limits: PictureLimits
    client: HttpClient | None
    retry_dead: bool = False

    def __post_init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.heard = False
        self.latest_failure = ""
        self.stop = threading.Event()
        self._locks = [threading.Lock() for _ in range(_N_LOCKS)]
        self._counting = threading.Lock()
        self._silence: Counter[str] = Counter()  # host -> failures in a row

    def obtain(self, source: str) -> str | None:
        """The picture's name in the store, or None if it cannot be had; :meth:`outcome` knows why.

        Raises:
            Stopped: the run is being ended.
            OSError, sqlite3.Error: the disk is full or cannot be written.
        """
        with self._locks[hash(source) % _N_LOCKS]:  # who else wants it waits, and finds it in the ledger
            if self.stop.is_set():
                raise Stopped
            version = self._version(source)
            entry = self.ledger.get(source)
            if entry is not None and self._is_settled(entry, version):
                return self._within_limits(entry.outcome).picture
            outcome = Outcome(reason=SILENT_HOST) if self._given_up(source) else self._ask(source)
            self.ledger.record(source, replace(outcome, version=self._judged(version, outcome)))
            return outcome.picture

    def outcome(self, source: str) -> Outcome:
        """What is known of a source by now; it is not asked."""
        entry = self.ledger.get(source)
        return Outcome(reason=NOT_ASKED) if entry is None else self._within_limits(entry.outcome)

    def _is_settled(self, entry: Entry, version: str) -> bool:
        """Whether the ledger's entry stands, so that there is nothing to ask."""
        known = entry.outcome
        if known.picture is not None:
            if known.version != version or not self.store.has(known.picture, known.n_bytes):
                return False
            self._count(reused=1)
            return True
        if entry.run == self.ledger.run:
            return True
        if not known.permanent or self.retry_dead or known.version != self._judged(version, known):
            return False
        self._count(dead_skipped=1)
        return True

    def _judged(self, version: str, outcome: Outcome) -> str:
        """What the outcome depends on: the limits are a part of it only where they were the reason."""
        return f"{version} {self.limits}" if outcome.reason in LIMIT_REASONS else version

    def _within_limits(self, outcome: Outcome) -> Outcome:
        """The outcome by the limits of now: they may have been wider when the picture was stored."""
        if outcome.picture is not None:
            try:
                self.limits.check(outcome.n_bytes, outcome.width, outcome.height)
            except BadPicture as bad:
                return Outcome(reason=bad.reason, detail=bad.detail, permanent=True)
        return outcome

    def _ask(self, source: str) -> Outcome:
        if self.client is None:
            return self._read(source)
        if not source.lower().startswith(("http://", "https://")):
            return Outcome(reason="not an http or https URL", permanent=True)
        self._count(asked=1)
        host = _host(source)
        try:
            fetched = self.client.fetch(source, max_bytes=self.limits.max_bytes, deadline_seconds=FETCH_SECONDS)
        except FetchError as error:
            if self.stop.is_set():  # closing the client wakes those who wait with an error
                raise Stopped from error
            self._hear(host, error.permanent, answered=error.permanent or error.status is not None)
            self.latest_failure = f"{source}: {error}"
            return Outcome(reason=error.reason, detail=error.detail, permanent=error.permanent)
        self._hear(host, True, answered=True)
        return self._keep(fetched.body, label=fetched.content_type)

    def _read(self, source: str) -> Outcome:
        """Take a file of the user's, which stays as it is."""
        path = Path(source)
        if not path.is_absolute():
            return Outcome(reason="not an absolute path", permanent=True)
        self._count(asked=1)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return Outcome(reason="not a file", permanent=True)
            if status.st_size > self.limits.max_bytes:
                return Outcome(reason=TOO_LARGE, detail=f"{status.st_size:,} bytes", permanent=True)
            body = path.read_bytes()
        except FileNotFoundError:
            return Outcome(reason="no such file", permanent=True)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            return Outcome(reason="cannot be read", detail=str(error))
        return self._keep(body, path=path)

    def _keep(self, body: bytes, *, path: Path | None = None, label: str = "") -> Outcome:
        try:
            info = check_picture(body, self.limits)
        except BadPicture as bad:
            detail = ", ".join(part for part in (label, bad.detail) if part)
            return Outcome(reason=bad.reason, detail=detail, permanent=True)
        name, is_new = self.store.add(body, info.suffix, path)
        self._count(**({"stored": 1, "bytes": len(body)} if is_new else {"reused": 1}))
        return Outcome(name, len(body), info.width, info.height)

    def _version(self, source: str) -> str:
        """Size and time of a file, by which a changed one is told."""
        if self.client is not None:
            return ""
        try:
            status = os.stat(source)
        except (OSError, ValueError):
            return "absent"
        return f"{status.st_size} bytes at {status.st_mtime_ns}"

    def _given_up(self, source: str) -> bool:
        return self.client is not None and self._silence[_host(source)] >= SILENT_LIMIT

    def _hear(self, host: str, final: bool, *, answered: bool) -> None:
        """Note how asking a host went; a host that only ever fails for now is given up."""
        with self._counting:
            self.heard |= answered
            self._silence[host] = 0 if final else self._silence[host] + 1

    def _count(self, **more: int) -> None:
        with self._counting:
            self.counts.update(more)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
