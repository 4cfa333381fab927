"""The folder of pictures, named by their content: equal pictures lie there once, whatever they were called."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path

from recbole_msm4sr.core.files import atomic_file


class PictureStore:
    """Files ``ab/abcdef....jpg`` below ``folder``: the SHA-256 of the content and the format's own ending.

    Safe for threads; for one process at a time, which the ledger sees to. A file appears whole or not at all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / ".incoming"  # written here first: a folder of few files, which is listed each time
        self._locks = {f"{number:02x}": threading.Lock() for number in range(256)}

    def sweep(self) -> None:
        """Delete what killed runs left half-written."""
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
        with self._locks[digest[:2]]:
            if self.has(name, len(body)):
                return name, False
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if original is None or not _link(original, target):
                with atomic_file(self._incoming / digest) as temporary:
                    temporary.write_bytes(body)
                os.replace(self._incoming / digest, target)
            return name, True


def _link(original: Path, target: Path) -> bool:
    """Make a hard link; false where there can be none: to another disk, or to somebody else's file."""
    target.unlink(missing_ok=True)
    try:
        os.link(os.path.realpath(original), target)
    except OSError:
        return False
    return True
