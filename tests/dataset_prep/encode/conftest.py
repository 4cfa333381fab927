"""A trained CLIP, a random ResNet, and a data set of drawn pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_prep.demo.catalogue import Item, dictionary, make_items
from dataset_prep.demo.encoders import build_clip
from dataset_prep.demo.pictures import draw
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import write_records

Pictures = dict[str, Sequence[Image.Image | bytes]]


@pytest.fixture(scope="session")
def trained_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP that mostly tells what is true of a drawn picture."""
    folder = tmp_path_factory.mktemp("trained") / "clip"
    build_clip(folder, make_items(500, np.random.default_rng(0)), dictionary(), seed=0, steps=120)
    return folder


@pytest.fixture(scope="session")
def random_resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with the ResNet and the processor of the hub's ``microsoft/resnet-50`` in small, untrained."""
    from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification

    folder = tmp_path_factory.mktemp("random") / "resnet"
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="bottleneck", num_labels=5
    )
    ResNetForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 64}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def drawn_items() -> list[Item]:
    """Items that the CLIP has not seen in its training."""
    return make_items(20, np.random.default_rng(99))


@pytest.fixture
def make_layout(tmp_path: Path) -> Callable[[Pictures], Layout]:
    """Makes a data set of items with pictures, which may be bytes that are none."""

    def make(pictures: Pictures) -> Layout:
        layout = Layout.of(tmp_path / "mine")
        records = []
        for item, of_item in pictures.items():
            names = []
            for picture in of_item:
                content = picture if isinstance(picture, bytes) else picture.tobytes()
                digest = hashlib.sha256(content).hexdigest()
                path = layout.picture_files / digest[:2] / f"{digest}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(picture, bytes):
                    path.write_bytes(picture)
                else:
                    picture.save(path)
                names.append(path.relative_to(layout.picture_files).as_posix())
            records.append({"item_id": item, "pictures": names})
        write_records(layout.pictures, records)
        return layout

    return make


@pytest.fixture
def drawn_layout(make_layout: Callable[[Pictures], Layout], drawn_items: list[Item]) -> Layout:
    """22 items: every fifth has a second picture, two have none, and two share a picture with the first."""
    rng = np.random.default_rng(7)
    pictures: Pictures = {
        item.token: [draw(item, rng) for _ in range(1 + (number % 5 == 0))] for number, item in enumerate(drawn_items)
    }
    first = next(iter(pictures.values()))[0]
    pictures["P0003"] = []
    pictures["none/at all"] = []
    pictures["same"] = [first]
    pictures["P0002"] = [*pictures["P0002"], first]
    return make_layout(pictures)
