"""Keep the model libraries from drawing progress bars and reports into a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers(*, even_on_terminal: bool = False) -> Iterator[None]:
    """Silence ``transformers``' loading bars and notices below errors while standard error is not a terminal.

    Its settings are the process's, so they are put back afterwards.
    """
    if sys.stderr.isatty() and not even_on_terminal:
        yield
        return
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
