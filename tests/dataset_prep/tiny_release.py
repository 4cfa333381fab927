"""A small Amazon release in the format of 2018 or 2023, made from the demo's generator: reviews, metadata, pictures."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataset_prep.demo.catalogue import Item, describe, make_items
from dataset_prep.demo.interactions import Interaction, make_interactions
from dataset_prep.demo.pictures import draw

CATEGORY = {2018: "Prime_Pantry", 2023: "Arts_Crafts_and_Sewing"}


@dataclass(frozen=True)
class TinyRelease:
    """What a mirror would serve: ``files`` by path below its base, ``pictures`` by name (``P0001_1.jpg``)."""

    items: list[Item]
    events: list[Interaction]
    files: dict[str, bytes]
    pictures: dict[str, bytes]


def make_release(release: int, url_of: Callable[[str], str], *, n_items: int = 60, n_users: int = 40) -> TinyRelease:
    """Generate a release; ``url_of`` gives the URL that the metadata names for a picture."""
    rng = np.random.default_rng(release)
    items = make_items(n_items, rng)
    events = make_interactions(items, n_users, rng)
    pictures = {
        f"{item.token}_{number}.jpg": _jpeg(item, rng) for item in items for number in range(1, item.n_pictures + 1)
    }
    urls = {
        item.token: [url_of(f"{item.token}_{number}.jpg") for number in range(1, item.n_pictures + 1)] for item in items
    }
    name = CATEGORY[release]
    if release == 2018:
        files = {
            f"categoryFiles/{name}.json.gz": _json_lines(_review_2018(event) for event in events),
            f"metaFiles2/meta_{name}.json.gz": _json_lines(_metadata_2018(i, urls[i.token], rng) for i in items),
        }
    else:
        files = {
            f"raw/review_categories/{name}.jsonl.gz": _json_lines(_review_2023(event) for event in events),
            f"raw/meta_categories/meta_{name}.jsonl.gz": _json_lines(
                _metadata_2023(i, urls[i.token], rng) for i in items
            ),
        }
    return TinyRelease(items, events, files, pictures)


def _jpeg(item: Item, rng: np.random.Generator) -> bytes:
    body = io.BytesIO()
    draw(item, rng).save(body, "JPEG", quality=95)
    return body.getvalue()


def _json_lines(records: Iterable[dict[str, Any]]) -> bytes:
    return gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode(), mtime=0)


def _review_2018(event: Interaction) -> dict[str, Any]:
    return {
        "overall": 5.0,
        "reviewerID": event.user,
        "asin": event.item,
        "reviewText": "Just as described.",
        "unixReviewTime": int(event.timestamp),
    }


def _review_2023(event: Interaction) -> dict[str, Any]:
    return {
        "rating": 5.0,
        "text": "Just as described.",
        "asin": f"{event.item}-blue",
        "parent_asin": event.item,
        "user_id": event.user,
        "timestamp": int(event.timestamp * 1000),
    }


def _metadata_2018(item: Item, urls: list[str], rng: np.random.Generator) -> dict[str, Any]:
    title, *description = describe(item, rng) or [""]
    return {
        "category": ["Home", item.kind],
        "description": [" ".join(description)],
        "title": title,
        "brand": item.brand,
        "feature": [],
        "asin": item.token,
        "imageURL": urls,
        "imageURLHighRes": urls,
    }


def _metadata_2023(item: Item, urls: list[str], rng: np.random.Generator) -> dict[str, Any]:
    title, *description = describe(item, rng) or [""]
    return {
        "title": title,
        "features": description[:1],
        "description": [" ".join(description[1:])],
        "images": [{"thumb": url, "large": url, "variant": "MAIN", "hi_res": None} for url in urls],
        "store": item.brand,
        "categories": ["Home", item.kind],
        "parent_asin": item.token,
    }
