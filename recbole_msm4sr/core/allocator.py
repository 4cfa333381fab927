"""Keep freed memory for the next training step (glibc only)."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_GIB = 1 << 30


def keep_freed_memory() -> bool:
    """Make the C allocator reuse large blocks instead of giving them back to the system.

    By default glibc maps every block above 32 MiB again, and the system clears its pages for every tensor of every
    step: a sixth of a fine-tuning step's time (docs/performance.md).

    Returns:
        Whether the C library took the settings; other C libraries than glibc are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl, for one
        return False
    settings = {_M_MMAP_THRESHOLD: _GIB, _M_TRIM_THRESHOLD: 2 * _GIB - 1, _M_TOP_PAD: 64 << 20}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
