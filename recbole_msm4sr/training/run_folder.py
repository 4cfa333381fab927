"""What a run leaves behind: runs/<dataset>/<model>/<time>/ with settings, versions, log, metrics and checkpoint."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from recbole.trainer import trainer as recbole_trainer
from torch.utils.tensorboard import SummaryWriter

from recbole_msm4sr.core import done
from recbole_msm4sr.core.distributed import is_main, main_only, once
from recbole_msm4sr.core.files import atomic_file, atomic_text, locked, naming
from recbole_msm4sr.core.versions import versions
from recbole_msm4sr.training.checkpoint import to_plain
from recbole_msm4sr.training.clean import RUN_LOCK

_PACKAGES = ("recbole-msm4sr", "recbole", "numpy", "pandas", "scipy")


class RunFolder:
    """A new folder for one run, which the first of its processes makes and writes.

    Args:
        config: names the folder; its settings are stored in ``config.yaml``, which ``--config_files`` reads.
    """

    def __init__(self, config: Any) -> None:
        parent = Path(config["runs_dir"]) / config["dataset"] / config["model"]
        self.path = Path(once(lambda: str(_new_folder(parent))))
        self._lock = self.path / RUN_LOCK
        self.log_file = self.path / f"{config['model']}-{config['dataset']}-{self.path.name}.log"
        self._write_settings(plain({"model": config["model"], "dataset": config["dataset"], **config.resolved}))

    @main_only
    def _write_settings(self, settings: dict[str, Any]) -> None:
        with atomic_text(self.path / "config.yaml") as file:
            yaml.safe_dump(settings, file, sort_keys=True)

    @main_only
    def write_json(self, name: str, content: Any) -> None:
        """Write ``content`` to ``name`` in the folder, atomically."""
        done.write_json(self.path / name, plain(content))

    @main_only
    def keep_checkpoint(self, path: Path) -> None:
        """Put the stage's checkpoint into the folder, as a hard link where the file system allows it."""
        target = self.path / "checkpoint.pth"
        try:
            os.link(path, target)
        except OSError:
            with atomic_file(target) as temporary:
                shutil.copyfile(path, temporary)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the folder's lock while the block runs: ``clean`` removes unfinished folders that no process holds."""
        if not is_main():
            yield
            return
        with locked(self._lock):
            try:
                yield
            finally:
                self._lock.unlink(missing_ok=True)

    @contextmanager
    def logging(self, level: str, *, console: bool = True) -> Iterator[None]:
        """Log to the run's folder, and to standard error, while the block runs; other processes log nothing.

        Raises:
            OSError: the disk is full; nothing is printed besides.
        """
        root = logging.getLogger()
        with naming(self.path), ExitStack() as self._undo:
            self._undo.callback(root.setLevel, root.level)
            for owner, name in ((root, "handlers"), (recbole_trainer, "get_tensorboard"), (threading, "excepthook")):
                self._undo.callback(setattr, owner, name, getattr(owner, name))
            handlers: list[logging.Handler] = [logging.NullHandler()]
            if is_main():
                handlers = [_LogFile(self.log_file, encoding="utf-8")]
                self._undo.callback(handlers[0].close)
                handlers += [logging.StreamHandler(sys.stderr)] if console else []
            for handler in handlers:
                handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
            root.handlers = handlers
            root.setLevel(level.upper())
            recbole_trainer.get_tensorboard = self._tensorboard if is_main() else _NoTensorBoard
            # TensorBoard's thread fails, and the next call from here raises what it failed with.
            threading.excepthook = lambda failed: None
            yield

    def _tensorboard(self, logger: Any) -> SummaryWriter:
        """In place of RecBole's, which writes to the current folder."""
        writer = SummaryWriter(self.path / "log_tensorboard")
        self._undo.callback(writer.close)
        return writer


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Raise the error of a full disk, which would be printed for every line."""
        if error := sys.exc_info()[1]:
            raise error


def _new_folder(parent: Path) -> Path:
    """Make ``parent/<time>``, or ``<time>-2``, ... where that exists."""
    stamp, number = time.strftime("%Y%m%d-%H%M%S"), 1
    path = parent / stamp
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1
            path = parent / f"{stamp}-{number}"


class _NoTensorBoard:
    """A TensorBoard writer for RecBole's trainers that writes nothing."""

    def __init__(self, logger: logging.Logger) -> None:
        pass

    def add_scalar(self, *args: Any) -> None:
        pass

    def add_hparams(self, *args: Any) -> None:
        pass


class _PlainFormatter(logging.Formatter):
    """Drops the colour codes that RecBole puts into its messages."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        while "\x1b[" in text:
            head, _, tail = text.partition("\x1b[")
            text = head + tail.partition("m")[2]
        return text


def plain(value: Any) -> Any:
    """Plain values for YAML and JSON; what has no such form becomes its text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return to_plain(value)
    return getattr(value, "name", None) or str(value)


def environment() -> dict[str, str]:
    """Versions that a result depends on."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        **versions(_PACKAGES),
    }
