"""A folder of pictures -> ``image_keywords.jsonl``: TopN of eq. 2, the words that describe each picture best."""

from __future__ import annotations

import logging
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from dataset_prep.pictures.folder import find_pictures
from dataset_prep.records import write_records
from dataset_prep.words.tagger import TOP_N, PictureTagger
from recbole_msm4sr.errors import UserError

logger = logging.getLogger(__name__)

_NAMED = 5  # pictures that cannot be decoded are named in the log up to this many
# What Pillow raises on damaged files of its various formats.
_UNDECODABLE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class KeywordReport:
    """What :func:`extract_keywords` did; ``undecodable`` names the pictures that were skipped."""

    n_items: int
    n_pictures: int
    undecodable: tuple[Path, ...]


def extract_keywords(
    images: str | os.PathLike[str],
    tagger: PictureTagger,
    out: str | os.PathLike[str],
    *,
    top_n: int = TOP_N,
    batch_size: int = 64,
) -> KeywordReport:
    """Write ``image_keywords.jsonl`` for a folder of pictures (see ``pictures.folder.find_pictures``).

    A picture that cannot be decoded is skipped and reported: among the many thousand of a catalogue some always are
    damaged. An item all of whose pictures fail gets ``[]``.

    Raises:
        UserError: the folder holds no pictures, none of them can be decoded, or ``top_n`` is below 1.
    """
    found = find_pictures(images)
    keywords: dict[str, list[list[str]]] = {item: [] for item in found}
    undecodable: list[Path] = []
    files = [(item, path) for item, paths in found.items() for path in paths]
    with tqdm(total=len(files), unit="picture", disable=None) as progress:  # None: only on a terminal
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            owners, pictures = [], []
            for item, path in batch:
                picture = _decode(path)
                if picture is None:
                    undecodable.append(path)
                else:
                    owners.append(item)
                    pictures.append(picture)
            if pictures:
                for item, words in zip(owners, tagger.keywords(pictures, top_n), strict=True):
                    keywords[item].append(words)
            progress.update(len(batch))
    if len(undecodable) == len(files):
        raise UserError(f"none of the {len(files)} pictures in {images} can be decoded, {files[0][1]} for one")
    write_records(out, ({"item_id": item, "keywords": words} for item, words in keywords.items()))
    logger.info("%s: %d pictures of %d items, %d words each", Path(out).name, len(files), len(found), top_n)
    if undecodable:
        named = ", ".join(str(path) for path in undecodable[:_NAMED])
        more = ", ..." if len(undecodable) > _NAMED else ""
        logger.warning("%d pictures cannot be decoded and were skipped: %s%s", len(undecodable), named, more)
    return KeywordReport(len(found), len(files) - len(undecodable), tuple(undecodable))


def _decode(path: Path) -> Image.Image | None:
    """The picture as RGB, or None if it cannot be decoded."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except _UNDECODABLE as error:
        logger.debug("%s cannot be decoded: %s", path, error)
        return None
