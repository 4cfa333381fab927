"""Where the items' pictures can be had: ``picture_sources.jsonl``, read, and written for a folder of pictures."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from dataset_prep.fetch.folder import find_pictures
from dataset_prep.readable import displayable
from dataset_prep.readers.jsonl import is_list_of_text, read_records, write_records
from dataset_prep.readers.rejected import Rejected
from recbole_msm4sr.core.errors import UserError

logger = logging.getLogger(__name__)


def read_sources(path: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield ``(item_id, pictures)`` in the file's order; a picture is a list of URLs or files, best first.

    Raises:
        UserError: as ``records.read_records``, or ``pictures`` is not a list of lists of valid strings.
    """
    for where, item_id, record in read_records(path):
        pictures = record.get("pictures")
        if not isinstance(pictures, list) or not all(is_list_of_text(sources) for sources in pictures):
            raise UserError(f'{where}: "pictures" must be a list with one list of URLs or files per picture')
        if not all(_is_unicode(source) for sources in pictures for source in sources):  # "\ud800" is valid JSON
            raise UserError(f"{where}: a URL or file is not valid Unicode: remove it")
        yield item_id, pictures


def count_items(path: Path) -> int:
    """Number of lines, for a progress bar; 0 if the file is missing, which :func:`read_sources` reports."""
    if not path.is_file():
        return 0
    with open(path, "rb") as file:
        return sum(1 for _ in file)


def choose_pictures(
    pictures: list[list[str]], obtain: Callable[[str], str | None], max_pictures: int
) -> tuple[list[str], int]:
    """Of every picture the first source that is good, until there are ``max_pictures`` different ones.

    Args:
        obtain: source -> the picture's name in the store, or None.

    Returns:
        The pictures' names, and how many pictures had no good source.
    """
    chosen: dict[str, None] = {}
    n_missing = 0
    for sources in pictures:
        if len(chosen) == max_pictures:
            break
        name = next((name for source in sources if (name := obtain(source)) is not None), None)
        if name is None:
            n_missing += 1
        else:
            chosen[name] = None
    return list(chosen), n_missing


def write_folder_sources(folder: str | os.PathLike[str], out_path: Path, tokens: Collection[str]) -> dict[str, Any]:
    """Write ``picture_sources.jsonl`` for a folder of pictures, named as ``folder.find_pictures`` has it.

    Args:
        tokens: the data set's items, in the order of the lines to write. Items without a picture get ``[]``.

    Returns:
        Figures: ``items``, ``items_with_pictures``, ``pictures``, and ``left_out``: files of no item of ``tokens``.

    Raises:
        UserError: the folder holds no picture, or none of an item of ``tokens``.
    """
    wanted: dict[str, list[Path]] = {token: [] for token in tokens}
    found = find_pictures(Path(folder).absolute(), wanted.keys())
    left_out = Rejected()
    for item, paths in found.items():
        for path in paths:
            if not _is_unicode(str(path)):
                left_out.add(displayable(str(path)), "its name is not valid Unicode")
            elif item not in wanted:
                left_out.add(displayable(str(path)), "no such item")
            else:
                wanted[item].append(path)
    n_files = sum(map(len, found.values()))
    if left_out.total == n_files:
        raise UserError(
            f"no picture in {folder} belongs to an item of the data set: {left_out.describe(n_files, 'files')}; "
            f"name them ITEM.jpg or ITEM/*.jpg, with items such as {next(iter(wanted), '')!r}"
        )
    write_records(
        out_path, ({"item_id": item, "pictures": [[str(path)] for path in paths]} for item, paths in wanted.items())
    )
    if left_out.total:
        logger.warning("%s: %s", folder, left_out.describe(n_files, "files"))
    return {
        "items": len(wanted),
        "items_with_pictures": sum(map(bool, wanted.values())),
        "pictures": n_files - left_out.total,
        "left_out": left_out.as_dict(),
    }


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
