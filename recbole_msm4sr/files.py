"""Files that are either whole or absent: write beside the target, then rename."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path

from recbole_msm4sr.errors import UserError


def _read_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


# It can only be read by setting it, for all threads: once, while modules are imported.
_UMASK = _read_umask()

_TEMPORARY = ".tmp"
_YOUNG = 60  # seconds in which a temporary may not be held yet


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to ``path`` if the block succeeds, else delete it.

    Parent folders are created. An interrupted or failed write leaves an earlier ``path`` untouched; what a killed one
    left beside it is deleted.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_overs(target)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_TEMPORARY, dir=target.parent)
    temporary = Path(name)
    with _held(handle):
        try:
            yield temporary
            temporary.chmod(0o666 & ~_UMASK)  # mkstemp makes files private; a result is not
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; rename it to ``path`` if the block succeeds, else delete it.

    What a killed write left is deleted first.

    Raises:
        UserError: ``path`` exists and ``overwrite`` is false.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists already: remove it, or ask to overwrite it")
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_overs(target)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_TEMPORARY, dir=target.parent))
    replaced = temporary.with_suffix(".old")
    with _held(os.open(temporary, os.O_RDONLY)):
        try:
            yield temporary
            temporary.chmod(0o777 & ~_UMASK)
            if target.exists():
                os.replace(target, replaced)
            os.replace(temporary, target)
        except BaseException:
            if replaced.exists() and not target.exists():
                os.replace(replaced, target)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def _held(handle: int) -> Iterator[None]:
    """Hold an open temporary, so that others see that its writer lives; then close it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_left_overs(target: Path) -> None:
    """Delete temporaries of ``target`` that no living writer holds."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*{_TEMPORARY}"):
        try:
            if time.time() - path.stat().st_mtime < _YOUNG:
                continue
            handle = os.open(path, os.O_RDONLY)
        except (FileNotFoundError, PermissionError):  # its writer has just finished, or is somebody else
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def locked(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs; the system lets go of it however the process ends.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is false.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            getLogger(__name__).info(f"waiting for another process, which holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks; large ones, so that a thread seldom waits for its turn."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
