"""``dataset_prep gallery dataset/Pantry``: a page to look at what a model will read of the items (figure 2)."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dataset_prep.gallery.items import Item, read_items
from dataset_prep.gallery.render import PICTURES_SHOWN, render_item, render_page
from dataset_prep.gallery.sample import draw
from dataset_prep.gallery.thumbnails import Thumbnail, Thumbnails
from dataset_prep.info.describe import describe
from dataset_prep.info.inventory import MODALITIES, take_inventory
from dataset_prep.layout import Layout
from dataset_prep.progress import progress_bar
from dataset_prep.readable import size_as_text
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_file

logger = logging.getLogger(__name__)

MAX_BYTES = 20 * 2**20
MISSING_SHARE = 0.2
_SLACK = 4096  # bytes for the figures about the sample, which are known when the items are


def write_gallery(
    layout: Layout,
    *,
    max_items: int = 200,
    seed: int = 0,
    thumbnail: int = 160,
    order: str = "random",
    missing_share: float = MISSING_SHARE,
    max_bytes: int = MAX_BYTES,
    out: str | os.PathLike[str] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Write one HTML file that needs nothing else: a sample of the items, and figures of the whole data set.

    Any part of the data set may be missing: the page shows what is there and says what is not.

    Args:
        max_items: size of the sample.
        seed: of the sample.
        thumbnail: longest side of a picture on the page, in pixels.
        order: ``random``, or ``popular`` for the most popular items, the first one first.
        missing_share: share of the sample kept for items that lack text or picture, drawn at random among them.
        max_bytes: the page is no larger than this; the last items of the sample are left out where need be.
        out: the file; default ``gallery.html`` in the data set's folder.

    Returns:
        The file, and figures: ``items`` and ``bytes`` of the page, ``pictures``, ``unreadable_pictures`` by reason,
        ``added`` for something missing, ``left_out`` for the page's size.

    Raises:
        UserError: there is no data set, a setting is out of its range, or ``max_bytes`` has no room for one item.
        OSError: the disk is full; an earlier page is still there.
    """
    if thumbnail < 16:
        raise UserError(f"thumbnail is {thumbnail} pixels: it must be 16 or more")
    target = layout.root / "gallery.html" if out is None else Path(out)
    inventory = take_inventory(layout)
    drawn = draw(inventory, max_items, missing_share, order, seed)
    items = read_items(layout, inventory, drawn)
    sample: dict[str, Any] = {
        "of": len(inventory.items),
        "order": order,
        "seed": seed,
        "max_bytes": max_bytes,
        "drawn": len(items),
    }
    described = describe(layout, inventory)
    # A page is shown around: where the folder lies is nobody's business.
    described["problems"] = [problem.replace(f"{layout.root}{os.sep}", "") for problem in described["problems"]]
    frame = render_page(described, _with_shown(sample, []), [])
    thumbnails = Thumbnails(layout.picture_files, thumbnail)
    rendered = _render(items, thumbnails, max_bytes - len(frame.encode()) - _SLACK)
    if items and not rendered:
        raise UserError(
            f"a page of {size_as_text(max_bytes)} has no room for an item: allow more, or smaller thumbnails"
        )
    sample = _with_shown(sample, items[: len(rendered)])
    page = render_page(described, sample, rendered).encode()
    with atomic_file(target) as temporary:
        temporary.write_bytes(page)
    figures = {
        "items": len(rendered),
        "added": sample["added"],
        "left_out": len(items) - len(rendered),
        "pictures": thumbnails.made,
        "unreadable_pictures": dict(thumbnails.failed.most_common()),
        "bytes": len(page),
    }
    logger.info("%s: %d of %d items, %s", target, len(rendered), len(inventory.items), size_as_text(len(page)))
    if thumbnails.failed:
        logger.warning("%d pictures cannot be shown: %s", thumbnails.failed.total(), figures["unreadable_pictures"])
    return target, figures


def _render(items: list[Item], thumbnails: Thumbnails, room: int) -> list[Markup]:
    """The items as HTML, as many of the first as fit into ``room`` bytes."""
    rendered = []
    with progress_bar(len(items), "items", "gallery") as bar:
        for item in items:
            pictures: list[Thumbnail | None] = [
                None if picture.file is None else thumbnails.of(picture.file)
                for picture in item.pictures[:PICTURES_SHOWN]
            ]
            entry = render_item(item, pictures)
            room -= len(entry.encode()) + 1  # and the line break after it
            if room < 0:
                break
            rendered.append(entry)
            bar.update()
    return rendered


def _with_shown(sample: dict[str, Any], shown: list[Item]) -> dict[str, Any]:
    """What the page says of its sample, counted over the items that are on it."""
    missing = {modality: sum(modality in item.missing for item in shown) for modality in MODALITIES}
    return {**sample, "shown": len(shown), "added": sum(item.added for item in shown), "missing": missing}
