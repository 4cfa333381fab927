"""The distinct sentences of a data set in one file, numbered in the order in which they first occur.

A number in place of a sentence keeps memory small where a catalogue has millions of items: 8 bytes a row, and while the
file is being written some 130 bytes a distinct sentence for the table that finds repeats by their digest.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

_TEXTS = "texts.bin"
_ENDS = "ends.npy"
# 16 bytes: with a billion sentences the chance that any two share a digest is about 1e-21.
_DIGEST_BYTES = 16


@contextmanager
def write_distinct(folder: Path) -> Iterator[DistinctWriter]:
    """Make a folder that :class:`DistinctSentences` reads; it is complete when the block has succeeded."""
    folder.mkdir(parents=True)
    with open(folder / _TEXTS, "wb", buffering=1 << 20) as file:
        writer = DistinctWriter(file)
        yield writer
    np.save(folder / _ENDS, np.array(writer.ends, dtype=np.int64))


class DistinctWriter:
    """Numbers sentences, and writes those that are new.

    Attributes:
        ends: where in the file each one ends, in bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._numbers: dict[bytes, int] = {}  # digest of a sentence -> its number
        self.ends = array("q")
        self._size = 0
        self._digest = hashlib.sha256()

    def number_of(self, sentence: str) -> int:
        """The sentence's number; it is written if it is new. What UTF-8 cannot hold becomes ``?``."""
        text = sentence.encode("utf-8", errors="replace")
        digest = hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()
        number = self._numbers.setdefault(digest, len(self._numbers))
        if number == len(self.ends):
            self._file.write(text)
            self._size += len(text)
            self.ends.append(self._size)
            self._digest.update(digest)
        return number

    @property
    def digest(self) -> str:
        """Hex digest of the sentences so far, in their order."""
        return self._digest.hexdigest()


class DistinctSentences:
    """What :func:`write_distinct` has made, read a range at a time."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._texts = Path(folder) / _TEXTS
        self._ends = np.load(Path(folder) / _ENDS, mmap_mode="r")  # int64 [n]: where in the file each one ends

    def __len__(self) -> int:
        """Number of distinct sentences."""
        return len(self._ends)

    def read(self, numbers: range) -> list[str]:
        """The sentences of consecutive numbers."""
        if not numbers:
            return []
        ends = self._ends[numbers.start : numbers.stop].tolist()
        begin = int(self._ends[numbers.start - 1]) if numbers.start else 0
        with open(self._texts, "rb") as file:
            file.seek(begin)
            block = file.read(ends[-1] - begin)
        starts = [begin, *ends[:-1]]
        return [block[start - begin : end - begin].decode("utf-8") for start, end in zip(starts, ends, strict=True)]
