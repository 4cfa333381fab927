"""A file that has been downloaded in part, and what is needed to go on with it after any interruption."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from dataset_prep.fetch.answer import Answer
from recbole_msm4sr.core.files import atomic_file


@dataclass(frozen=True)
class _Source:
    """What the bytes are part of. ``validator`` is an ETag or a date for ``If-Range``; None forbids to go on."""

    validator: str | None
    length: int | None


class PartialFile:
    """``NAME.part`` with the bytes, and ``NAME.part.json`` with what they are part of.

    The bytes are a prefix of the file at every moment, so a process that is killed loses nothing that was written.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._source_path = target.with_name(target.name + ".part.json")
        self._source = self._read_source()

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` asks for; None if the server gave nothing that tells versions apart."""
        return self._source.validator if self._source else None

    @property
    def length(self) -> int | None:
        """Bytes of the whole file, if the server said so."""
        return self._source.length if self._source else None

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self.size > 0 and self.size == self.length

    def begin(self, answer: Answer) -> None:
        """Forget what is there: ``answer`` brings the file from its first byte on."""
        # In this order: a kill in between leaves an empty file, never old bytes under a new validator.
        self.path.write_bytes(b"")
        self._source = _Source(validator_of(answer), answer.content_length)
        with atomic_file(self._source_path) as temporary:
            temporary.write_text(json.dumps(vars(self._source)), encoding="utf-8")

    def discard(self) -> None:
        """Remove everything."""
        self.path.unlink(missing_ok=True)
        self._source_path.unlink(missing_ok=True)
        self._source = None

    def finish(self) -> None:
        """Make it the target, for good: the rename survives a loss of power too."""
        os.replace(self.path, self.target)
        folder = os.open(self.target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._source_path.unlink(missing_ok=True)

    def _read_source(self) -> _Source | None:
        if not self.path.is_file() or not self._source_path.is_file():
            return None
        try:
            return _Source(**json.loads(self._source_path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):  # not as it was written: the bytes cannot be trusted
            return None


def validator_of(answer: Answer) -> str | None:
    """The strong ETag, else the date of the last change, else None."""
    etag = answer.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")
