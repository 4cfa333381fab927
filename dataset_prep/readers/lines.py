"""Read huge text files line by line, compressed or not, in constant memory and with a progress bar."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

from dataset_prep.progress import progress_bar
from recbole_msm4sr.core.errors import UserError

_GZIP_MAGIC = b"\x1f\x8b"
_REPORT_EVERY = 4096  # lines between two looks at how far the file has been read
# The longest records of the releases are below 1 MiB.
MAX_LINE = 64 * 2**20


def read_lines(path: str | os.PathLike[str], longest: int = MAX_LINE) -> Iterator[tuple[int, bytes]]:
    """Yield ``(number, line)`` from 1 on, the line break included; gzip is recognised by its first bytes.

    Progress is shown in bytes of the file as it lies on disk.

    Args:
        longest: most bytes of a line, which is held in memory whole.

    Raises:
        UserError: the file is missing, a damaged or cut gzip file, or has a longer line.
    """
    source = Path(path)
    if not source.is_file():
        raise UserError(f"{source} is not a file: give the path of a file, plain or gzip")
    size = source.stat().st_size
    with open(source, "rb") as raw:
        compressed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        text: BufferedIOBase = gzip.GzipFile(fileobj=raw) if compressed else raw
        with progress_bar(size, "B", source.name, unit_scale=True, unit_divisor=1024) as bar:
            number = 0
            try:
                while line := text.readline(longest + 1):
                    number += 1
                    if len(line) > longest:
                        raise UserError(f"{source}:{number}: the line is longer than {longest:,} bytes: is it text?")
                    yield number, line
                    if number % _REPORT_EVERY == 0:
                        bar.update(raw.tell() - bar.n)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise UserError(
                    f"{source} is damaged or cut off after line {number:,} ({error}): fetch the file again"
                ) from error
            bar.update(size - bar.n)
