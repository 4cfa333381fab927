"""``dataset_prep gallery dataset/Pantry``: one HTML page to look at what a model will read of the items (figure 2).

Everything from the data set is foreign text: Jinja escapes it, wherever it stands. The page needs no other file, and
its content security policy lets it load none.
"""

from __future__ import annotations

import base64
import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dataset_prep.fetch.decode import BadPicture, decode
from dataset_prep.gallery.sample import Drawn, draw
from dataset_prep.info.describe import describe
from dataset_prep.info.inventory import MODALITIES, Inventory, all_sentences, record_pictures, take_inventory
from dataset_prep.info.text import describe_as_text
from dataset_prep.layout import Layout
from dataset_prep.progress import progress_bar
from dataset_prep.readable import displayable, size_as_text
from dataset_prep.readers.jsonl import read_records, record_keywords
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_text

logger = logging.getLogger(__name__)

MAX_BYTES = 20 * 2**20  # of all items together; the last ones of the sample are left out where need be
_MAX_HEAD = 100_000  # characters of the figures above them
_SHOWN = {"sentences": 10, "pictures": 10, "words": 50}  # of one item; the page says how many more there are
_QUALITY = 75  # of WebP: a poster at 160 pixels has 5 kB

_environment = Environment(
    loader=PackageLoader("dataset_prep.gallery", "template"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["show"] = displayable


def write_gallery(
    layout: Layout,
    *,
    max_items: int = 200,
    seed: int = 0,
    thumbnail: int = 160,
    order: str = "random",
    missing_share: float = 0.2,
    out: str | os.PathLike[str] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Write one HTML file: a sample of the items, and figures of the whole data set.

    Any part of the data set may be missing: the page shows what is there and says what is not.

    Args:
        max_items: size of the sample.
        seed: of the sample.
        thumbnail: longest side of a picture on the page, in pixels.
        order: ``random``, or ``popular`` for the most popular items, the first one first.
        missing_share: share of the sample kept for items that lack text or picture, drawn at random among them.
        out: the file; default ``gallery.html`` in the data set's folder.

    Returns:
        The file, and figures: ``items`` and ``bytes`` of the page, ``pictures``, ``unreadable_pictures`` by reason,
        ``added`` for something missing, ``left_out`` for the page's size.

    Raises:
        UserError: there is no data set, or a setting is out of its range.
        OSError: the disk is full; an earlier page is still there.
    """
    if not 16 <= thumbnail <= 4096:  # WebP has a limit, too
        raise UserError(f"thumbnail is {thumbnail} pixels: it must be between 16 and 4,096")
    target = layout.root / "gallery.html" if out is None else Path(out)
    if out is not None and (not target.name or target.is_dir()):
        raise UserError(f"--out {os.fspath(out)!r} is not a file to write: give one, such as gallery.html")
    inventory = take_inventory(layout)
    drawn = draw(inventory, max_items, missing_share, order, seed)
    made, failed = Counter[str](), Counter[str]()
    shown: list[str] = []
    room = MAX_BYTES
    with progress_bar(len(drawn), "items", "gallery") as bar:
        for item in _items(layout, inventory, drawn):
            item["pictures"] = [
                (_thumbnail(layout.picture_files, file, thumbnail, made, failed) if file else None, file, words or [])
                for file, words in item["pictures"]
            ]
            shown.append(_environment.get_template("item.html").render(item=item, shown=_SHOWN))
            room -= len(shown[-1].encode())
            if room < 0:
                shown.pop()
                break
            bar.update()
    added = sum(one.added for one in drawn[: len(shown)])
    page = _environment.get_template("page.html").render(
        name=layout.name,
        figures=_figures(layout, inventory),
        sample={"of": len(inventory.items), "shown": len(shown), "drawn": len(drawn), "added": added},
        order=order,
        seed=seed,
        items=shown,
    )
    with atomic_text(target) as file:
        file.write(page)
    logger.info("%s: %d of %d items, %s", target, len(shown), len(inventory.items), size_as_text(len(page.encode())))
    if failed:
        logger.warning("%d pictures cannot be shown: %s", failed.total(), dict(failed.most_common()))
    return target, {
        "items": len(shown),
        "added": added,
        "left_out": len(drawn) - len(shown),
        "pictures": made.total(),
        "unreadable_pictures": dict(failed.most_common()),
        "bytes": len(page.encode()),
    }


def _items(layout: Layout, inventory: Inventory, drawn: Sequence[Drawn]) -> Iterator[dict[str, Any]]:
    """All that is known of the items drawn, in their order; a picture is its file (or None) and its words (or None)."""
    tokens = {inventory.items[one.place] for one in drawn}

    def read(source: str, path: Path, entries: Callable[[Mapping[str, Any], str], list[Any]]) -> dict[str, list[Any]]:
        if source not in inventory.counts:
            return {}
        return {item: entries(record, where) for where, item, record in read_records(path) if item in tokens}

    sentences = read("sentences", layout.sentences, all_sentences)
    files = read("pictures", layout.pictures, record_pictures)
    words = read("words", layout.keywords, record_keywords)
    lacks = {modality: inventory.lacks(modality) for modality in MODALITIES}
    for place in (one.place for one in drawn):
        token = inventory.items[place]
        counts = {name: inventory.counts.get(f"{name} features") for name in MODALITIES}
        yield {
            "id": token,
            "interactions": None if inventory.interactions is None else int(inventory.interactions[place]),
            "sentences": sentences.get(token, []),
            "pictures": list(zip_longest(files.get(token, []), words.get(token, [])))[: _SHOWN["pictures"]],
            "more_pictures": max(len(files.get(token, [])), len(words.get(token, []))) - _SHOWN["pictures"],
            "missing": [modality for modality, lacking in lacks.items() if lacking[place]],
            "vectors": {modality: int(count[place]) for modality, count in counts.items() if count is not None},
        }


def _thumbnail(folder: Path, name: str, size: int, made: Counter[str], failed: Counter[str]) -> dict[str, Any] | None:
    """A picture of the store (the first frame of an animation) as a data URI; None if it cannot be shown."""
    try:
        path = Path(os.path.realpath(folder / name))
        if not path.is_relative_to(os.path.realpath(folder)):
            raise BadPicture("outside the folder of pictures")
        if not path.is_file():
            raise BadPicture("no such file")
        picture = decode(path.read_bytes())
    except BadPicture as error:
        failed[error.reason] += 1
        return None
    except (OSError, ValueError):  # no right to read, a name that no file can have
        failed["cannot be read"] += 1
        return None
    picture.thumbnail((size, size))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY)
    made[name] += 1
    uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"uri": uri, "width": picture.width, "height": picture.height}


def _figures(layout: Layout, inventory: Inventory) -> str:
    """What ``info`` prints, without the paths of this machine: a page is shown around."""
    described = describe(layout, inventory)
    described["path"] = layout.name
    described["disk"] = {}  # the page itself is a part of it
    described["failures"] = [{**failure, "examples": []} for failure in described["failures"]]
    described["problems"] = [problem.replace(f"{layout.root}{os.sep}", "") for problem in described["problems"]]
    text = describe_as_text(described)
    return "\n".join(displayable(line) for line in text[:_MAX_HEAD].splitlines())
