"""Remove what killed commands left behind: temporaries, unfinished run folders, and progress that is of no use."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recbole_msm4sr.core.command import Parser
from recbole_msm4sr.core.errors import InUseError, UserError
from recbole_msm4sr.core.files import locked, remove_left_overs

#: A file of a run's folder, which the run holds locked and removes when the folder is complete.
RUN_LOCK = "lock"
_RUN_FOLDER = re.compile(r"\d{8}-\d{6}(-\d+)?")
_STAGE_LOCK = "stage.json.lock"
_DEFAULTS = ("runs", "saved", "studies", "dataset")


def main(argv: Sequence[str]) -> int:
    """``msm4sr clean [FOLDER ...] [--interrupted]``."""
    parser = Parser("msm4sr clean", description=__doc__)
    parser.add_argument(
        "folders", nargs="*", metavar="FOLDER", help=f"default: {', '.join(_DEFAULTS)}, those there are"
    )
    parser.add_argument("--interrupted", action="store_true", help="remove stages that --resume could continue, too")
    given = parser.parse_args(argv)
    folders = given.folders or [name for name in _DEFAULTS if Path(name).is_dir()]
    print(clean(folders, interrupted=given.interrupted))
    return 0


@dataclass
class Cleaned:
    """What ``clean`` did.

    Attributes:
        removed: files and folders that are gone.
        resumable: folders of interrupted stages, kept.
    """

    removed: list[Path] = field(default_factory=list)
    resumable: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"removed {path}" for path in self.removed] or ["there was nothing to remove"]
        lines += [f"kept {path}: an interrupted stage, which --resume continues" for path in self.resumable]
        return "\n".join(lines)


def clean(folders: Sequence[str | os.PathLike[str]], *, interrupted: bool = False) -> Cleaned:
    """Clean up below folders: ``runs``, ``saved``, studies, data sets. What a living process uses is left alone.

    Args:
        interrupted: remove interrupted stages as well, which could be resumed.

    Raises:
        UserError: one is not a folder.
    """
    done = Cleaned()
    for root in map(Path, folders):
        if not root.is_dir():
            raise UserError(f"there is no folder {root}")
        for parent, _, _ in os.walk(root):
            folder = Path(parent)
            done.removed += remove_left_overs(folder)
            names = set(os.listdir(folder))
            if _RUN_FOLDER.fullmatch(folder.name):
                _clean_run(folder, names, done)
            elif names & {_STAGE_LOCK, "progress.pth"}:
                _clean_stage(folder, names, done, interrupted)
    return done


def _clean_run(folder: Path, names: set[str], done: Cleaned) -> None:
    """A run's folder is complete once it has ``metrics.json``."""
    if "metrics.json" not in names:
        _remove(folder, folder / RUN_LOCK, done)
    elif RUN_LOCK in names:
        _remove(folder / RUN_LOCK, folder / RUN_LOCK, done)


def _clean_stage(folder: Path, names: set[str], done: Cleaned, interrupted: bool) -> None:
    """A stage is finished once it has ``stage.json``, and can be resumed while it has ``progress.pth``."""
    if "stage.json" in names:
        if "progress.pth" in names:
            _remove(folder / "progress.pth", folder / _STAGE_LOCK, done)
    elif "progress.pth" in names and not interrupted:
        done.resumable.append(folder)
    else:
        _remove(folder, folder / _STAGE_LOCK, done)


def _remove(path: Path, lock: Path, done: Cleaned) -> None:
    try:
        with locked(lock, wait=False):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            done.removed.append(path)
    except InUseError:
        return
