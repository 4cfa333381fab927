"""Pre-trained models: a folder, or a name on the model hub; loaded without the libraries' messages in a log."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import sha256_of_file

logger = logging.getLogger(__name__)

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def is_local_model(name_or_path: str) -> bool:
    """True for a folder, which is to be read without the network; False for what can be a name on the hub.

    Raises:
        UserError: it is neither. A mistyped path should not be looked for on the hub, which takes minutes to fail.
    """
    check_model_name(name_or_path)
    if Path(name_or_path).is_dir():
        return True
    logger.info("there is no folder %s: asking the model hub for a model of that name", name_or_path)
    return False


def check_model_name(name_or_path: str) -> None:
    """Raise a ``UserError`` unless it is a folder or can be a name on the hub; nothing is asked or loaded."""
    folder = name_or_path and Path(name_or_path).is_dir()  # Path("") would be the current folder
    if not folder and not _HUB_NAME.fullmatch(name_or_path):
        raise UserError(f"there is no model folder {name_or_path!r}: give a folder, or a name on the model hub")


def loading_error(what: str, name_or_path: str, error: Exception) -> UserError:
    """The error to raise when a library cannot load ``what``; the first line of its own message is kept."""
    kind = "folder" if Path(name_or_path).is_dir() else "name (and there is no such folder)"
    reason = str(error).strip().split("\n")[0] or type(error).__name__
    return UserError(f"no {what} can be loaded from the {kind} {name_or_path}: {reason}")


def digest_of_weights(folder: Path) -> str:
    """One digest over all weight files of a model folder: two encoders of one name are told apart by it."""
    digest = hashlib.sha256()
    for pattern in ("*.safetensors", "*.bin"):
        for path in sorted(folder.rglob(pattern)):
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of_file(path)}\n".encode())
    return f"sha256:{digest.hexdigest()[:16]}"


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
