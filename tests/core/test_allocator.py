"""``keep_freed_memory``: glibc keeps a large block that was freed; other systems are left alone."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from recbole_msm4sr.core.allocator import keep_freed_memory

# Allocates and frees 100 MiB, then prints: blocks that were mapped for it, and bytes kept after it was freed.
_ALLOCATE = """
import ctypes
from recbole_msm4sr.core.allocator import keep_freed_memory

class Counters(ctypes.Structure):  # struct mallinfo of malloc.h
    _fields_ = [(name, ctypes.c_int) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]

libc = ctypes.CDLL("libc.so.6")
libc.mallinfo.restype = Counters
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
if {call}:
    assert keep_freed_memory() is True
before = libc.mallinfo()
block = libc.malloc(100 << 20)
during = libc.mallinfo()
libc.free(block)
print(during.hblks - before.hblks, libc.mallinfo().arena - before.arena)
"""


def allocate(call: bool) -> tuple[int, int]:
    """Mapped blocks and kept bytes of a process of its own, so that this one's allocator stays as it is."""
    script = _ALLOCATE.replace("{call}", str(call))
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    mapped, kept = map(int, output.split())
    return mapped, kept


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_a_freed_large_block_is_kept() -> None:
    assert allocate(call=False) == (1, 0)
    mapped, kept = allocate(call=True)
    assert mapped == 0
    assert kept >= 100 << 20


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("looked for a C library"))
    assert keep_freed_memory() is False


def no_library(name: str) -> Any:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize(
    "load",
    [
        no_library,
        lambda name: SimpleNamespace(),
        lambda name: SimpleNamespace(mallopt=lambda setting, value: 0),
    ],
    ids=["no glibc", "no mallopt", "a refused setting"],
)
def test_settings_that_are_not_taken_are_told(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert keep_freed_memory() is False
