"""A prepared folder of six items, made by hand, with something of everything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import write_records
from dataset_prep.readers.rejected import Rejected
from dataset_prep.steps import run_step
from recbole_msm4sr.data.feature_store import FeatureStore

# Item -> sentences, and the words of each picture. D has no text, E no picture, F neither.
ITEMS: dict[str, tuple[list[str], list[list[str]]]] = {
    "A": (["Oat energy bar", "Category: Snacks"], [["oats", "grain"], ["adventure", "energy"]]),
    "B": (["Green tea", "Brand: Leaf & Co", "Twenty bags."], [["tea", "leaf"]]),
    "C": (["Dish soap"], [["bottle", "lemon"]]),
    "D": ([], [["box"]]),
    "E": (["Paper towels"], []),
    "F": ([], []),
}
TIMES = {"A": 4, "B": 3, "C": 2, "D": 1, "E": 1, "F": 1}  # item -> interactions


def small_data_set(root: Path) -> Layout:
    """Every file that the steps make, with pictures of noise; two failures in the summary of the step ``pictures``."""
    layout = Layout.of(root)
    write_interactions(layout, TIMES)
    write_records(layout.sentences, ({"item_id": item, "sentences": text} for item, (text, _) in ITEMS.items()))
    write_records(layout.keywords, ({"item_id": item, "keywords": words} for item, (_, words) in ITEMS.items()))
    files = {
        item: [write_picture(layout, f"{item}{i}") for i in range(len(words))] for item, (_, words) in ITEMS.items()
    }
    write_records(layout.pictures, ({"item_id": item, "pictures": names} for item, names in files.items()))
    for place, modality in enumerate(("text", "image")):
        rows = [np.ones((len(entry[place]), 4), np.float32) for entry in ITEMS.values()]
        FeatureStore.write(layout.features(modality), list(ITEMS), rows, encoder="tiny-bert", revision="r1")
    failed = Rejected()
    failed.add("https://shop.example/F.jpg", "404 Not Found")
    failed.add("https://shop.example/E.jpg", "404 Not Found")
    finish_step(layout, "pictures", {"had": 4, "failed": failed.as_dict()})
    return layout


def write_interactions(layout: Layout, times: Mapping[str, int]) -> None:
    """An ``.inter`` file in which every item occurs so often, by users u0, u1, u2 in turn."""
    occurrences = [item for item, count in times.items() for _ in range(count)]
    lines = (f"u{number % 3}\t{item}\t{number}\n" for number, item in enumerate(occurrences))
    layout.root.mkdir(parents=True, exist_ok=True)
    layout.interactions.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(lines), encoding="utf-8")


def write_picture(layout: Layout, seed: str, size: tuple[int, int] = (300, 200)) -> str:
    """A picture of noise in the folder of pictures; returns its name there."""
    digest = hashlib.sha256(seed.encode()).hexdigest()
    noise = np.random.default_rng(int(digest[:8], 16)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path = layout.picture_files / digest[:2] / f"{digest}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)
    return path.relative_to(layout.picture_files).as_posix()


def finish_step(layout: Layout, name: str, figures: Mapping[str, Any]) -> None:
    """Leave a step's summary."""
    run_step(layout, name, settings={}, inputs=[], outputs=[], work=lambda: figures)


def write_raw_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """JSON lines with everything beyond ASCII escaped: half surrogate pairs too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="ascii")
