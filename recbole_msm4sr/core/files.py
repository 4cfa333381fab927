"""Files that are either whole or absent (write beside the target, then rename), and locks between processes."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, EINVAL, EIO, ENOSPC, ENOTSUP, EROFS
from logging import getLogger
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from recbole_msm4sr.core.errors import InUseError, UserError

#: Names of temporaries: .TARGET.HOST-PROCESS-RANDOM.tmp, and .old for a folder that is being replaced.
_TEMPORARY = re.compile(rf"\.(.+)\.{re.escape(platform.node())}-(\d+)-[0-9a-f]{{8}}\.(tmp|old)", re.DOTALL)


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to ``path`` if the block succeeds, else delete it.

    Parent folders are created. The content is on the disk before its name is, so a kill or a power cut leaves the old
    file or the new one. What killed writers of ``path`` left is deleted.

    Raises:
        OSError: the file cannot be written; the message names ``path``.
    """
    target = Path(path)
    temporary = _beside(target)
    try:
        with naming(target):
            temporary.touch()
            yield temporary
            flush(temporary)
            os.replace(temporary, target)
            flush(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_text(path: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """``atomic_file`` for text, UTF-8 with ``\\n`` at the ends of lines: yields the open file."""
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        yield file


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """``atomic_file`` for a folder; one that a killed writer had put aside to replace it comes back.

    Raises:
        UserError: ``path`` exists and ``overwrite`` is false.
        OSError: the folder cannot be written; the message names ``path`` or a file in it.
    """
    target = Path(path)
    temporary = _beside(target)
    replaced = temporary.with_suffix(".old")
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists already: remove it, or ask to overwrite it")
    try:
        with naming(target):
            temporary.mkdir()
            yield temporary
            for folder, _, names in os.walk(temporary):
                for name in (*names, "."):
                    flush(Path(folder, name))
            if target.exists():
                os.replace(target, replaced)
            os.replace(temporary, target)
            flush(target.parent)
    except BaseException:
        if replaced.exists() and not target.exists():
            os.replace(replaced, target)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def remove_left_overs(folder: Path, target: str | None = None) -> list[Path]:
    """Delete what dead processes of this host left of atomic writes in a folder; returns what it was.

    Args:
        target: name of the one file or folder whose left-overs are meant; default all.
    """
    found = []
    for entry in sorted(os.listdir(folder)):
        match = _TEMPORARY.fullmatch(entry)
        if match is None or target not in (None, match[1]) or _is_alive(int(match[2])):
            continue
        path = folder / entry
        found.append(path)
        if match[3] == "old" and not (folder / match[1]).exists():
            os.replace(path, folder / match[1])  # killed between the two renames of atomic_folder
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return found


@contextmanager
def locked(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs; the system releases it however the process ends.

    Raises:
        InUseError: another process holds it, and ``wait`` is false.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    busy = f"{Path(path).parent} is in use by another process"
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        if not wait:
            raise InUseError(busy) from error
        getLogger(__name__).info(f"waiting: {busy}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def fingerprint(path: Path, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``size``, ``mtime_ns`` and ``sha256`` of a file.

    Args:
        known: an earlier fingerprint; its hash is taken over while size and time are the same.
    """
    status = path.stat()
    found = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    if known is not None and "sha256" in known and found.items() <= known.items():
        return {**found, "sha256": known["sha256"]}
    return {**found, "sha256": sha256_of_file(path)}


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks; large ones, so that a thread seldom waits for its turn."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _beside(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_left_overs(target.parent, target.name)
    return target.parent / f".{target.name}.{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Add the target's name to disk errors that name no file, such as a full disk."""
    try:
        yield
    except OSError as error:
        if type(error) is OSError and error.errno is None:  # numpy's: "4096 requested and 0 written"
            raise UserError(f"cannot write {target}: {error}; is the disk full?") from error
        if error.errno in (EDQUOT, EFBIG, EIO, ENOSPC, EROFS) and error.filename is None:
            error.filename = str(target)
        raise


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    is_folder = path.is_dir()
    if is_folder and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not is_folder or error.errno not in (EINVAL, ENOTSUP):  # some network file systems cannot, for folders
            raise
    finally:
        os.close(handle)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is alive, and another user's
        pass
    return True
