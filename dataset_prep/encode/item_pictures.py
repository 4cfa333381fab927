"""``pictures.jsonl``: which picture files an item has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import is_list_of_text, read_records
from recbole_msm4sr.core.errors import UserError


def read_pictures(layout: Layout) -> Iterator[tuple[str, list[str]]]:
    """Yield ``(item_id, pictures)`` in the file's order; pictures are paths below ``layout.picture_files``.

    Raises:
        UserError: as ``records.read_records``, or ``pictures`` is not a list of such paths.
    """
    for where, item_id, record in read_records(layout.pictures):
        pictures = record.get("pictures")
        if not is_list_of_text(pictures) or not all(_is_below(name) for name in pictures or ()):
            raise UserError(f'{where}: "pictures" must be a list of paths below {layout.picture_files}')
        yield item_id, list(pictures or ())


def distinct_pictures(layout: Layout) -> dict[str, int]:
    """The files of all items -> their number, in the order in which they first occur.

    Files are named by their content, so pictures that several items share are one file.

    Raises:
        UserError: no item has a picture, or as :func:`read_pictures`.
    """
    numbers: dict[str, int] = {}
    for _, pictures in read_pictures(layout):
        for name in pictures:
            numbers.setdefault(name, len(numbers))
    if not numbers:
        raise UserError(
            f"no item in {layout.pictures} has a picture: get pictures, or leave image out of the modalities"
        )
    return numbers


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts
