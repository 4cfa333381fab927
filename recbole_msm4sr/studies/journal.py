"""Optuna's journal in one file that survives processes which are killed."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from recbole_msm4sr.core.files import locked


class SystemLock(JournalFileOpenLock):
    """A lock that the system releases with its process.

    Optuna's own are files that a killed process leaves behind; with a relative path the next process then waits for
    ever.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path
        self._held: AbstractContextManager[None] | None = None

    def acquire(self) -> bool:
        self._held = locked(self.path)
        self._held.__enter__()
        return True

    def release(self) -> None:
        held, self._held = self._held, None
        if held is None:
            raise RuntimeError(f"{self.path} is not held")
        held.__exit__(None, None, None)


def open_journal(path: Path) -> JournalStorage:
    """Optuna's storage in ``path``, made if it is not there; half a last line, of a killed process, is dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_path = path.with_name(f"{path.name}.lock")
    with locked(lock_path), open(path, "ab+") as file:
        file.seek(0)
        content = file.read()
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(path), SystemLock(lock_path)))
