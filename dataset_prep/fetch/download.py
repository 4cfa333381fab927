"""Download large files so that no interruption, of the network or of the process, loses what has come."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

from dataset_prep.fetch.answer import Answer
from dataset_prep.fetch.budget import Budget
from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.errors import FetchError
from dataset_prep.fetch.partial import PartialFile, validator_of
from dataset_prep.progress import progress_bar
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import sha256_of_file

logger = logging.getLogger(__name__)

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_GZIP_BLOCK = 2**20
_PATIENCE = 60.0  # seconds for every _PROGRESS bytes: a slower connection is opened anew
_PROGRESS = 256 * 2**10


@dataclass(frozen=True)
class Downloaded:
    """A file that has come. ``resumed_at``: bytes that an earlier run had left, on which this one built."""

    path: Path
    url: str
    size: int
    sha256: str
    resumed_at: int


def download(client: HttpClient, url: str, target: Path) -> Downloaded:
    """Download ``url`` to ``target``, going on where an earlier run stopped if the file is still the same.

    The bytes are collected beside the target (:class:`~dataset_prep.fetch.partial.PartialFile`). Once there are as many
    as the server announced, and a ``.gz`` unpacks without an error, they are renamed to ``target``. Failures are
    retried as the client says; the count starts again whenever more has come than ever before.

    Raises:
        FetchError: it cannot be had; what has come is kept.
        UserError: the disk has no room for it; what has come is kept.
    """
    part = PartialFile(target)
    resumed_at = most = part.size if part.complete or part.validator else 0
    failures, started_again = 0, False
    while True:
        try:
            if not part.complete:
                _receive(client, url, part)
        except FetchError as error:
            failures = 1 if part.size > most else failures + 1
            most = max(most, part.size)
            if error.permanent or failures > client.retries:
                raise
            logger.info("%s: %s; trying again from byte %s", target.name, error, f"{part.size:,}")
            client.wait_before_retry(failures)
            continue
        damage = _damage(part)
        if damage is None:
            break
        part.discard()
        if started_again:  # the second time is no accident
            raise FetchError("damaged file", permanent=True, detail=damage)
        logger.info("%s is damaged (%s): starting again", target.name, damage)
        resumed_at, started_again = 0, True
    digest = sha256_of_file(part.path)
    part.finish()
    return Downloaded(target, url, target.stat().st_size, digest, resumed_at)


def _receive(client: HttpClient, url: str, part: PartialFile) -> None:
    """Ask for what is missing, and append it as it comes."""
    offset = part.size if part.validator else 0
    headers = {"Range": f"bytes={offset}-", "If-Range": str(part.validator)} if offset else {}
    budget = Budget(_PATIENCE)
    try:
        with client.open(url, headers=headers, budget=budget) as answer:
            if answer.content_type == "text/html":
                raise FetchError("wrong content type", permanent=True, detail="a web page in place of the file")
            _check_room(part, answer.content_length)
            if answer.status != 206 or not offset:
                part.begin(answer)
            elif not _continues(answer, part, offset):
                part.discard()
                raise FetchError("wrong range", permanent=False, detail=answer.headers.get("Content-Range", ""))
            _append(answer, part, budget)
    except FetchError as error:
        if error.status != 416 or not offset:
            raise
        part.discard()
        raise FetchError("wrong range", permanent=False, status=416) from error


def _continues(answer: Answer, part: PartialFile, offset: int) -> bool:
    """Whether a partial answer starts where our bytes end, and is of the file that they are of."""
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != offset or match[2] not in ("*", str(part.length)):
        return False
    return validator_of(answer) in (None, part.validator)


def _append(answer: Answer, part: PartialFile, budget: Budget) -> None:
    bar = progress_bar(part.length, "B", part.target.name, initial=part.size, unit_scale=True, unit_divisor=1024)
    received = 0
    try:
        with bar, open(part.path, "ab") as file:
            for block in answer.blocks(decompress=False):
                file.write(block)
                bar.update(len(block))
                received += len(block)
                if received >= _PROGRESS:
                    received = 0
                    budget.renew()
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"the disk is full after {part.size:,} bytes of {part.target.name}: make room and run the command again, "
            "it goes on from there"
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


def _damage(part: PartialFile) -> str | None:
    """What is wrong with a file that has come: it is empty, or a ``.gz`` that does not unpack to its end."""
    if part.size == 0:
        return "it is empty"
    if part.target.suffix != ".gz":
        return None
    try:
        with (
            open(part.path, "rb") as raw,
            gzip.open(raw) as unpacked,
            progress_bar(part.size, "B", f"check {part.target.name}", unit_scale=True, unit_divisor=1024) as bar,
        ):
            while unpacked.read(_GZIP_BLOCK):
                bar.update(raw.tell() - bar.n)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return str(error)
    return None
