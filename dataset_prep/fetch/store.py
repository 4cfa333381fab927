"""The folder of pictures, named by their content: equal pictures lie there once, whatever they were called."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path


class PictureStore:
    """Files ``ab/abcdef....jpg`` below ``folder``: the SHA-256 of the content and the format's own ending.

    Safe for threads; for one process at a time, which the ledger sees to. A file appears whole or not at all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / ".incoming"
        self._lock = threading.Lock()

    def sweep(self) -> None:
        """Delete what an interrupted run left half-written."""
        if self._incoming.exists():
            shutil.rmtree(self._incoming)

    def has(self, name: str, n_bytes: int) -> bool:
        """Whether the picture lies there with the size it should have."""
        try:
            return (self.folder / name).stat().st_size == n_bytes
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name that no file can have
            return False

    def add(self, body: bytes, suffix: str, original: Path | None = None) -> tuple[str, bool]:
        """Store a picture.

        Args:
            body: the file's content.
            suffix: the ending, ``.jpg``.
            original: a file with this content. It is linked instead of written anew, if the file system can.

        Returns:
            Its name below the folder, and whether it is new there.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        digest = hashlib.sha256(body).hexdigest()
        name = f"{digest[:2]}/{digest}{suffix}"
        if self.has(name, len(body)):
            return name, False
        # Two threads may store the same content at once: each has its own temporary file, and one of them is first.
        temporary = self._incoming / f"{digest}.{threading.get_ident()}"
        target = self.folder / name
        self._incoming.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(exist_ok=True)
        try:
            if original is None or not _link(original, temporary):
                with open(temporary, "wb") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
            with self._lock:
                is_new = not self.has(name, len(body))
                if is_new:
                    os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return name, is_new


def _link(original: Path, target: Path) -> bool:
    """Make a hard link; false where there can be none: to another disk, or to somebody else's file."""
    try:
        os.link(os.path.realpath(original), target)
    except OSError:
        return False
    return True
