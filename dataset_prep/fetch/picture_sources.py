"""Where the items' pictures come from: ``picture_sources.jsonl``, read, and written for a folder of pictures."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from dataset_prep.readable import displayable
from dataset_prep.readers.jsonl import is_list_of_text, read_records, write_records
from dataset_prep.readers.rejected import Rejected
from recbole_msm4sr.core.errors import UserError

logger = logging.getLogger(__name__)

_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"))
_NUMBERED = re.compile(r"(?P<item>.+)_(?P<number>\d+)")


def read_sources(path: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield ``(item_id, pictures)`` in the file's order; a picture is a list of URLs or files, best first.

    Raises:
        UserError: as ``read_records``, or ``pictures`` is not a list of lists of valid strings.
    """
    for where, item_id, record in read_records(path):
        pictures = record.get("pictures")
        if not isinstance(pictures, list) or not all(is_list_of_text(sources) for sources in pictures):
            raise UserError(f'{where}: "pictures" must be a list with one list of URLs or files per picture')
        if not all(_is_unicode(source) for sources in pictures for source in sources):  # "\ud800" is valid JSON
            raise UserError(f"{where}: a URL or file is not valid Unicode: remove it")
        yield item_id, pictures


def find_pictures(folder: str | os.PathLike[str], tokens: Collection[str] = ()) -> dict[str, list[Path]]:
    """Find ``ITEM.jpg``, ``ITEM_2.png`` (further pictures of ITEM) and ``ITEM/*.jpg`` (any names).

    Hidden files, files of other types, links that lead nowhere and whatever is not a regular file are passed over.

    Args:
        tokens: the known items, better a set than a list. ``A_2.jpg`` belongs to ``A_2`` if that is one of them.
            Unknown items whose token ends in ``_`` and digits have to use the form with a folder.

    Returns:
        item -> its pictures, items in alphabetical order; pictures by number (``ITEM`` before ``ITEM_2`` before
        ``ITEM_10``), then those of the folder in the order of their names.

    Raises:
        UserError: ``folder`` is not a folder, or holds no picture.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{displayable(str(root))} is not a folder: give the folder that holds the pictures")
    found: dict[str, list[tuple[float, Path]]] = {}
    for entry in root.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            for path in filter(_is_picture, entry.iterdir()):
                found.setdefault(entry.name, []).append((float("inf"), path))
        elif _is_picture(entry):
            match = None if entry.stem in tokens else _NUMBERED.fullmatch(entry.stem)
            item, number = (match["item"], int(match["number"])) if match else (entry.stem, 0)
            found.setdefault(item, []).append((number, entry))
    if not found:
        raise UserError(
            f"{displayable(str(root))} holds no picture ({', '.join(sorted(_SUFFIXES))}): name them ITEM.jpg or "
            "ITEM/*.jpg"
        )
    return {item: [path for _, path in sorted(found[item])] for item in sorted(found)}


def write_folder_sources(folder: str | os.PathLike[str], out_path: Path, tokens: Collection[str]) -> dict[str, Any]:
    """Write ``picture_sources.jsonl`` for a folder of pictures, named as in :func:`find_pictures`.

    Args:
        tokens: the data set's items, in the order of the lines to write. Items without a picture get ``[]``.

    Returns:
        Figures: ``items``, ``items_with_pictures``, ``pictures``, and ``left_out``: files of no item of ``tokens``.

    Raises:
        UserError: the folder holds no picture, or none of an item of ``tokens``.
    """
    wanted: dict[str, list[list[str]]] = {token: [] for token in tokens}
    left_out, n_files = Rejected(), 0
    for item, paths in find_pictures(Path(folder).absolute(), wanted.keys()).items():
        for path in map(str, paths):
            n_files += 1
            if not _is_unicode(path):
                left_out.add(path, "its name is not valid Unicode")
            elif item not in wanted:
                left_out.add(path, "no such item")
            else:
                wanted[item].append([path])
    what = f"{displayable(str(folder))}: {left_out.describe(n_files, 'files')}"
    if left_out.total == n_files:
        raise UserError(
            f"{what}; no picture belongs to an item of the data set: name them ITEM.jpg or ITEM/*.jpg, with items "
            f"such as {next(iter(wanted), '')!r}"
        )
    if left_out.total:
        logger.warning(what)
    write_records(out_path, ({"item_id": item, "pictures": pictures} for item, pictures in wanted.items()))
    return {
        "items": len(wanted),
        "items_with_pictures": sum(map(bool, wanted.values())),
        "pictures": n_files - left_out.total,
        "left_out": left_out.as_dict(),
    }


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
