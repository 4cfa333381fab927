"""Find a release's files in a folder that a user has filled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from recbole_msm4sr.core.errors import UserError


def find_file(folder: Path, wanted: str, others: Sequence[str] = ()) -> Path | None:
    """The file below ``folder`` that is the release's ``wanted``, as it came or unpacked (without ``.gz``).

    It must have the release's file name, and may lie in any sub-folder. Where files of one release share a name, the
    names of the folders tell them apart.

    Args:
        wanted: the file's path in the release.
        others: paths of the release's other files; what looks more like one of them is not taken.

    Returns:
        The path, or None if there is no such file.

    Raises:
        UserError: several files fit equally well.
    """
    best: list[Path] = []
    best_score = 0
    for path in _files_named(folder, PurePosixPath(wanted).name):
        score = _shared_tail(path, wanted)
        if score < best_score or any(_shared_tail(path, other) > score for other in others):
            continue
        best = [*best, path] if score == best_score else [path]
        best_score = score
    # The compressed file before the unpacked one beside it: reading it shows whether it is whole.
    best = [path for path in best if path.with_name(path.name + ".gz") not in best]
    if len(best) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in best)
        raise UserError(f"{folder} has several files that could be {wanted}: {names}; keep one, or name its folder")
    return best[0] if best else None


def _files_named(folder: Path, name: str) -> list[Path]:
    names = {name, name.removesuffix(".gz")}
    found = [Path(parent, file) for parent, _, files in os.walk(folder) for file in files if file in names]
    return sorted(found)


def _shared_tail(path: Path, wanted: str) -> int:
    """Number of parts that two paths have in common at their ends; ``.gz`` does not count."""
    count = 0
    for mine, theirs in zip(reversed(path.parts), reversed(PurePosixPath(wanted).parts), strict=False):
        if mine.removesuffix(".gz") != theirs.removesuffix(".gz"):
            break
        count += 1
    return count
