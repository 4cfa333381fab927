"""Files that are either whole or absent: write beside the target, then rename."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path

from recbole_msm4sr.core.errors import UserError


def _read_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


# It can only be read by setting it, for all threads: once, while modules are imported.
_UMASK = _read_umask()


def _read_machine() -> str:
    """Where numbers of processes mean the same: the machine and, in containers, its name space of processes."""
    name_space = Path("/proc/self/ns/pid")
    where = platform.node() + (os.readlink(name_space) if name_space.is_symlink() else "")
    return f"{zlib.crc32(where.encode()):08x}"


_MACHINE = _read_machine()


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to ``path`` if the block succeeds, else delete it.

    Parent folders are created. An interrupted or failed write leaves an earlier ``path`` untouched; what a killed one
    left beside it is deleted.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_up_after_killed_writers(target)
    handle, name = tempfile.mkstemp(prefix=_prefix(target), suffix=".tmp", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_UMASK)  # mkstemp makes files private; a result is not
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; rename it to ``path`` if the block succeeds, else delete it.

    What a killed write left is deleted first; a folder that it had put aside to replace it comes back.

    Raises:
        UserError: ``path`` exists and ``overwrite`` is false.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_up_after_killed_writers(target)
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists already: remove it, or ask to overwrite it")
    temporary = Path(tempfile.mkdtemp(prefix=_prefix(target), suffix=".tmp", dir=target.parent))
    replaced = temporary.with_suffix(".old")
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


def _prefix(target: Path) -> str:
    """How names of this process's temporaries begin: the machine and the process tell whether the writer lives."""
    return f".{target.name}.{_MACHINE}-{os.getpid()}-"


def _clear_up_after_killed_writers(target: Path) -> None:
    """Delete temporaries that dead processes of this machine left; one put aside takes a missing target's place."""
    name = re.compile(rf"\.{re.escape(target.name)}\.{_MACHINE}-(\d+)-[a-z0-9_]{{8}}\.(tmp|old)")
    for entry in os.listdir(target.parent):
        match = name.fullmatch(entry)
        if match is None or _is_alive(int(match[1])):
            continue
        path = target.parent / entry
        if match[2] == "old" and not target.exists():
            os.replace(path, target)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and is somebody else's
        pass
    return True


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
