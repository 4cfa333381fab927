"""Which picture files belong to which item."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from recbole_msm4sr.core.errors import UserError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"))
_NUMBERED = re.compile(r"(?P<item>.+)_(?P<number>\d+)")


def find_pictures(folder: str | os.PathLike[str], tokens: Collection[str] = ()) -> dict[str, list[Path]]:
    """Find ``ITEM.jpg``, ``ITEM_2.png`` (further pictures of ITEM) and ``ITEM/*.jpg`` (any names).

    Hidden files and files of other types are passed over.

    Args:
        tokens: the known items, better a set than a list. ``A_2.jpg`` belongs to ``A_2`` if that is one of them.
            Unknown items whose token ends in ``_`` and digits have to use the form with a folder.

    Returns:
        item -> its pictures, items in alphabetical order; pictures by number (``ITEM`` before ``ITEM_2`` before
        ``ITEM_10``), then those of the folder in the order of their names.

    Raises:
        UserError: ``folder`` is no folder, or holds no picture.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder that holds the pictures")
    found: dict[str, list[tuple[tuple[int, str], Path]]] = {}
    for entry in root.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            inside = [path for path in entry.iterdir() if _is_picture(path)]
            if inside:
                # past any number that a file beside the folder could carry
                found.setdefault(entry.name, []).extend(((1 << 62, path.name), path) for path in inside)
        elif _is_picture(entry):
            match = None if entry.stem in tokens else _NUMBERED.fullmatch(entry.stem)
            item = match["item"] if match else entry.stem
            found.setdefault(item, []).append(((int(match["number"]) if match else 0, entry.name), entry))
    if not found:
        raise UserError(f"{root} holds no picture ({', '.join(sorted(SUFFIXES))}): name them ITEM.jpg or ITEM/*.jpg")
    return {item: [path for _, path in sorted(found[item])] for item in sorted(found)}


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
