"""One progress bar for all steps: rate and time left, in place on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

_LOG_INTERVAL = 60.0  # seconds
_SHORT = 1.0  # seconds; what takes no longer has no bar


def progress_bar(total: int | None, unit: str, description: str, **options: Any) -> tqdm:
    """A bar of ``total`` (None if unknown) ``unit``s; ``options`` are tqdm's. Use it as a context manager."""
    if sys.stderr.isatty():
        return tqdm(total=total, unit=unit, desc=description, dynamic_ncols=True, delay=_SHORT, **options)
    # No first line: a step that is done within a minute has nothing to show in a log.
    return tqdm(
        total=total,
        unit=unit,
        desc=description,
        mininterval=_LOG_INTERVAL,
        maxinterval=_LOG_INTERVAL,
        delay=_LOG_INTERVAL,
        ncols=100,
        **options,
    )
