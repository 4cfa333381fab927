"""One source -> a checked picture in the store, or the reason why there is none; asked once, by whichever thread."""

from __future__ import annotations

import os
import stat
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.decode import MAX_BYTES, BadPicture, check_picture
from dataset_prep.fetch.errors import FetchError
from dataset_prep.fetch.ledger import Ledger, Outcome
from dataset_prep.fetch.store import PictureStore

_FETCH_SECONDS = 120.0  # of a server's time for one URL, all attempts together
_N_LOCKS = 4096  # many more than workers: two sources seldom share one by chance


class Stopped(Exception):
    """The run is being ended; nothing more is asked."""


@dataclass
class Obtainer:
    """Obtain pictures, from any number of threads.

    Attributes:
        client: asks the sources, which are URLs; None: they are files.
        retry_dead: ask again what failed for good, too.
        silent_limit: failures in a row, none of them final, after which a host is left alone for this run.
        counts: of sources, in this run: ``asked``; ``stored`` (new in the store) and ``bytes`` of those; ``reused``
            (known as good, or the same picture lay there); ``dead_skipped`` (known as dead); ``answered`` (URLs that
            came to something: a picture or a final refusal).
        latest_failure: the URL that failed last, and why.
    """

    ledger: Ledger
    store: PictureStore
    client: HttpClient | None
    retry_dead: bool
    silent_limit: int
    counts: Counter[str] = field(default_factory=Counter)
    latest_failure: str = ""

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._locks = [threading.Lock() for _ in range(_N_LOCKS)]
        self._counting = threading.Lock()
        self._failed: set[str] = set()  # in this run
        self._silence: Counter[str] = Counter()  # host -> failures in a row

    def stop(self) -> None:
        """Let every call end, those that wait for a server too; they raise Stopped."""
        self._stopped.set()
        if self.client is not None:
            self.client.stop()

    def obtain(self, source: str) -> Outcome:
        """The picture's name in the store, or the reason why there is none.

        Raises:
            Stopped: the run is being ended.
            OSError, UserError: the disk is full or cannot be written, or the ledger is damaged.
        """
        with self._locks[hash(source) % _N_LOCKS]:  # who else wants it waits, and finds it in the ledger
            if self._stopped.is_set():
                raise Stopped
            version = self._version(source)
            known = self.ledger.get(source)
            if known is not None and self._is_settled(source, known, version):
                return known
            outcome = replace(self._ask(source), version=version)
            self.ledger.record(source, outcome)
            if outcome.picture is None:
                self._failed.add(source)
            return outcome

    def _is_settled(self, source: str, known: Outcome, version: str) -> bool:
        """Whether the ledger's entry stands, so that there is nothing to ask."""
        if known.picture is not None:
            if known.version != version or not self.store.has(known.picture, known.n_bytes):
                return False
            self._count(reused=1)
            return True
        if source in self._failed:
            return True
        if not known.permanent or self.retry_dead or known.version != version:
            return False
        self._count(dead_skipped=1)
        return True

    def _ask(self, source: str) -> Outcome:
        if self.client is None:
            return self._read(source)
        if not source.lower().startswith(("http://", "https://")):
            return Outcome(reason="not an http or https URL", permanent=True)
        host = _host(source)
        if self._silence[host] >= self.silent_limit:
            return Outcome(reason="not asked: its host failed again and again")
        self._count(asked=1)
        try:
            body, kind = self.client.fetch(source, max_bytes=MAX_BYTES, deadline_seconds=_FETCH_SECONDS)
        except FetchError as error:
            if self._stopped.is_set():  # stopping the client wakes those who wait with an error
                raise Stopped from error
            self._note_answer(host, error.permanent)
            self._count(answered=int(error.permanent or error.status is not None))
            self.latest_failure = f"{source}: {error}"
            return Outcome(reason=error.reason, detail=error.detail, permanent=error.permanent)
        self._note_answer(host, True)
        self._count(answered=1)
        return self._keep(body, label=kind)

    def _read(self, source: str) -> Outcome:
        """Take a file of the user's, which stays as it is."""
        path = Path(source)
        if not path.is_absolute():
            return Outcome(reason="not an absolute path", permanent=True)
        self._count(asked=1)
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait forever
                return Outcome(reason="not a file", permanent=True)
            with open(path, "rb") as file:
                body = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return Outcome(reason="no such file", permanent=True)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            return Outcome(reason="cannot be read", detail=str(error))
        return self._keep(body, original=path)

    def _keep(self, body: bytes, *, original: Path | None = None, label: str = "") -> Outcome:
        try:
            suffix = check_picture(body)
        except BadPicture as bad:
            detail = ", ".join(part for part in (label, bad.detail) if part)
            return Outcome(reason=bad.reason, detail=detail, permanent=True)
        name, is_new = self.store.add(body, suffix, original)
        self._count(**({"stored": 1, "bytes": len(body)} if is_new else {"reused": 1}))
        return Outcome(name, len(body))

    def _version(self, source: str) -> str:
        """Size and time of a file, by which a changed one is told from the one that is known."""
        if self.client is not None:
            return ""
        try:
            status = os.stat(source)
        except (OSError, ValueError):
            return "absent"
        return f"{status.st_size} bytes at {status.st_mtime_ns}"

    def _note_answer(self, host: str, final: bool) -> None:
        with self._counting:
            self._silence[host] = 0 if final else self._silence[host] + 1

    def _count(self, **more: int) -> None:
        with self._counting:
            self.counts.update(more)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
