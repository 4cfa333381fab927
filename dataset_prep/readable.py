"""Figures and foreign text as people read them."""

from __future__ import annotations

import re

# Control characters, halves of surrogate pairs, and marks that turn the direction of all text after them.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def displayable(text: str, limit: int = 1000) -> str:
    """``text`` for a page or a terminal: what cannot be shown becomes U+FFFD, and ``limit`` characters are kept."""
    shown = _UNSHOWABLE.sub("\ufffd", text[:limit])
    return shown if len(text) <= limit else f"{shown}… ({len(text):,} characters)"


def size_as_text(size: float) -> str:
    """Bytes in the unit that suits: ``512 B``, ``1.4 MiB``."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def seconds_as_text(seconds: float) -> str:
    """A duration in the units that suit: ``4.2 s``, ``3 min 20 s``, ``5 h 12 min``."""
    if not 60 <= seconds < 1e12:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def percent(share: float) -> str:
    """A share with one decimal; never 0.0 % or 100.0 % unless it is none or all."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"


def difference(here: float, there: float) -> str:
    """How far a figure is from a published one: ``+0.3 %``, ``the same``."""
    return "the same" if here == there else f"{100 * (here - there) / there:+.1f} %"
