"""Download large files so that no interruption, of the network or of the process, loses what has come."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import logging
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

from urllib3 import BaseHTTPResponse

from dataset_prep.fetch.client import Clock, HttpClient, blocks, content_type
from dataset_prep.fetch.errors import FetchError
from dataset_prep.progress import progress_bar
from recbole_msm4sr.core.done import read_json, write_json
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import flush

logger = logging.getLogger(__name__)

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_BLOCK = 2**20
_PROGRESS = 256 * 2**10  # bytes that have to come within the patience


class PartialFile:
    """``NAME.part`` with the bytes, and ``NAME.part.json`` with what they are part of.

    The bytes are a prefix of the file at every moment, so a process that is killed loses nothing that was written.

    Attributes:
        validator: an ETag or a date for ``If-Range``; None if nothing tells versions of the file apart.
        length: bytes of the whole file; None if the server did not say.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._notes = target.with_name(target.name + ".part.json")
        notes = read_json(self._notes, {"validator": str | None, "length": int | None}) if self.path.is_file() else None
        self.validator: str | None = notes["validator"] if notes else None
        self.length: int | None = notes["length"] if notes else None
        if self.validator is not None and not (self.validator.isascii() and self.validator.isprintable()):
            self.validator = None  # no header can hold it

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are there."""
        return self.size > 0 and self.size == self.length

    @property
    def usable(self) -> int:
        """Bytes that are there and can be built on."""
        return self.size if self.validator or self.is_complete else 0

    def begin(self, answer: BaseHTTPResponse) -> None:
        """Forget what is there: ``answer`` brings the file from its first byte on."""
        # In this order: a kill in between leaves an empty file, never old bytes under a new validator.
        self.path.write_bytes(b"")
        self.validator, self.length = validator_of(answer), answer.length_remaining
        write_json(self._notes, {"validator": self.validator, "length": self.length})

    def discard(self) -> None:
        """Remove everything."""
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
        self.validator = self.length = None

    def finish(self) -> None:
        """Make it the target, for good: the rename survives a loss of power, too."""
        os.replace(self.path, self.target)
        flush(self.target.parent)
        self._notes.unlink(missing_ok=True)


def validator_of(answer: BaseHTTPResponse) -> str | None:
    """The strong ETag, else the date of the last change, else None."""
    etag = answer.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")


def download(client: HttpClient, url: str, target: Path, *, patience: float = 60.0) -> dict[str, Any]:
    """Download ``url`` to ``target``, continuing where an earlier run stopped if the file is still the same.

    The bytes are collected beside the target (:class:`PartialFile`). Once there are as many as the server announced,
    and a ``.gz`` unpacks without an error, they are renamed to ``target``. A damaged file is fetched once more.

    Args:
        patience: seconds for every 256 KiB: a slower connection is opened anew.

    Returns:
        Figures: ``bytes``, ``mtime_ns``, ``sha256``, ``url``, ``resumed_at`` (bytes that an earlier run had left).

    Raises:
        FetchError: it cannot be fetched; what has come is kept.
        UserError: the disk has no room for it; what has come is kept.
    """
    part = PartialFile(target)
    damage = ""
    for _ in range(2):
        resumed_at = part.usable
        if not part.is_complete:
            _receive_all(client, url, part, patience)
        size = part.size
        sha256, damage = _check(part)
        if not damage:
            part.finish()
            mtime_ns = target.stat().st_mtime_ns
            return {"bytes": size, "mtime_ns": mtime_ns, "sha256": sha256, "url": url, "resumed_at": resumed_at}
        part.discard()
        logger.info("%s is damaged: %s", target.name, damage)
    raise FetchError("damaged file", permanent=True, detail=damage)


def _receive_all(client: HttpClient, url: str, part: PartialFile, patience: float) -> None:
    """Ask until all has come. The count of failures starts again whenever more has come than ever before."""
    failures, most = 0, part.usable
    while True:
        try:
            _receive(client, url, part, patience)
            return
        except FetchError as error:
            failures = 1 if part.size > most else failures + 1
            most = max(most, part.size)
            if error.permanent or failures > client.retries:
                raise
            logger.info("%s: %s; trying again from byte %s", part.target.name, error, f"{part.size:,}")
            client.wait_before_retry(failures)


def _receive(client: HttpClient, url: str, part: PartialFile, patience: float) -> None:
    """Ask for what is missing, and append it as it comes."""
    offset = part.size if part.validator else 0
    headers = {"Range": f"bytes={offset}-", "If-Range": str(part.validator)} if offset else {}
    clock = Clock(patience)
    try:
        with client.open(url, clock, headers) as answer:
            if content_type(answer) == "text/html":
                raise FetchError("wrong content type", permanent=True, detail="a web page in place of the file")
            _check_room(part, answer.length_remaining)
            if answer.status != 206 or not offset:
                part.begin(answer)
            elif not _continues(answer, part, offset):
                part.discard()
                raise FetchError("wrong range", permanent=False, detail=answer.headers.get("Content-Range", ""))
            _append(answer, part, clock)
    except FetchError as error:
        if error.status != 416 or not offset:
            raise
        part.discard()
        raise FetchError("wrong range", permanent=False, status=416) from error


def _continues(answer: BaseHTTPResponse, part: PartialFile, offset: int) -> bool:
    """Whether a partial answer starts where our bytes end, and is of the file that they are of."""
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != offset or match[2] not in ("*", str(part.length)):
        return False
    return validator_of(answer) in (None, part.validator)


def _append(answer: BaseHTTPResponse, part: PartialFile, clock: Clock) -> None:
    bar = progress_bar(part.length, "B", part.target.name, initial=part.size, unit_scale=True, unit_divisor=1024)
    received = 0
    try:
        with bar, open(part.path, "ab") as file:
            for block in blocks(answer, clock, decompress=False):
                file.write(block)
                bar.update(len(block))
                received += len(block)
                if received >= _PROGRESS:
                    received = 0
                    clock.renew()
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"{part.path}: the disk is full after {part.size:,} bytes: make room and run the command again, it "
            "continues from there"
        ) from error


def _check_room(part: PartialFile, needed: int | None) -> None:
    folder = part.target.parent
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed is not None and needed > free:
        raise UserError(
            f"{part.target.name} needs {needed / 1e9:.1f} GB more, and the disk of {folder} has {free / 1e9:.1f} GB "
            "left: make room, or prepare the data set on another disk"
        )


class _HashedFile(io.FileIO):
    """A file whose digest grows as it is read from beginning to end."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sha256 = hashlib.sha256()

    def read(self, size: int | None = -1, /) -> bytes:
        block = super().read(size)
        self.sha256.update(block)
        return block


def _check(part: PartialFile) -> tuple[str, str]:
    """Read a file once that has come: its SHA-256, and its damage: it is empty, or a ``.gz`` that does not unpack."""
    with (
        _HashedFile(part.path) as raw,
        progress_bar(part.size, "B", f"check {part.target.name}", unit_scale=True, unit_divisor=1024) as bar,
    ):
        unpacked = gzip.GzipFile(fileobj=raw) if part.target.suffix == ".gz" else raw
        try:
            while unpacked.read(_BLOCK):
                bar.update(raw.tell() - bar.n)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            return "", str(error)
        return raw.sha256.hexdigest(), "" if raw.tell() else "it is empty"
