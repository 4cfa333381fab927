"""Has this been done already? One answer for stages, runs of a study, steps and shards.

A piece of work has a key, made of its settings and inputs, and a summary file that appears when the work is finished
and not before::

    record = DoneRecord(folder / "stage.json", key_of({"settings": settings, "data": fingerprint}))
    with record.lock():  # others that want the same wait, then find it done
        if (summary := record.read()) is None:
            summary = work()
            record.write(summary)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import UnionType
from typing import Any

from recbole_msm4sr.core.files import atomic_text, locked

_LONGEST = 2**28  # bytes; a larger file is not a summary


def key_of(settings: Mapping[str, Any]) -> str:
    """Hex SHA-256 of settings as canonical JSON: the same for equal ones, whatever the order of their names."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class DoneRecord:
    """The summary file of one piece of work.

    Args:
        path: of the summary, JSON. Its lock is ``<path>.lock``.
        key: of the settings and inputs that the work depends on (``key_of``).
        shape: keys that a summary must have, each with the type of its value.
    """

    def __init__(self, path: Path, key: str, shape: Mapping[str, type | UnionType] | None = None) -> None:
        self.path, self.key = path, key
        self._shape = {"key": str, "checksum": str, **(shape or {})}

    def read(self) -> dict[str, Any] | None:
        """The summary of the finished work.

        Returns:
            ``None`` if the file is absent, damaged, of another shape or of another key.
        """
        content = read_json(self.path, self._shape)
        if content is None or content.pop("checksum") != key_of(content):
            return None
        return content if content["key"] == self.key else None

    def write(self, content: Mapping[str, Any]) -> None:
        """Say that the work is finished: store its summary and the key, whole or not at all."""
        content = {**content, "key": self.key}
        write_json(self.path, {**content, "checksum": key_of(content)})

    def lock(self, *, wait: bool = True) -> AbstractContextManager[None]:
        """Keep other processes from the work while a block runs.

        Raises:
            InUseError: another process is busy with it, and ``wait`` is false.
        """
        return locked(self.path.with_name(f"{self.path.name}.lock"), wait=wait)


def read_json(path: Path, shape: Mapping[str, type | UnionType] | None = None) -> dict[str, Any] | None:
    """An object from a JSON file of our own bookkeeping.

    Args:
        shape: keys that it must have, each with the type of its value.

    Returns:
        ``None`` if the file is absent, is not UTF-8 or JSON, or has another shape: it tells nothing.
    """
    if not path.is_file() or path.stat().st_size > _LONGEST:
        return None
    try:
        content = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError):  # not UTF-8, cut, a number of 5,000 digits; nested 10,000 deep
        return None
    if not isinstance(content, dict):
        return None
    fits = all(name in content and isinstance(content[name], kind) for name, kind in (shape or {}).items())
    return content if fits else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that people read, too: indented, in ASCII (names need not be UTF-8), whole or not at all."""
    with atomic_text(path) as file:
        file.write(json.dumps(content, indent=2) + "\n")
