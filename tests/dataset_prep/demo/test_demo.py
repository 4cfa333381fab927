"""The generated data set."""

from __future__ import annotations

import shutil
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dataset_prep.__main__ import main
from dataset_prep.demo import dataset as demo
from dataset_prep.demo.catalogue import dictionary, make_items
from dataset_prep.demo.dataset import DemoSizes, make_demo
from dataset_prep.demo.encoders import build_clip
from dataset_prep.demo.interactions import make_interactions
from dataset_prep.demo.pictures import draw
from dataset_prep.encode.picture_encoder import Clip
from dataset_prep.encode.picture_words import nearest_words
from dataset_prep.encode.sentence_encoder import load_sentence_encoder
from dataset_prep.encode.sentence_features import text_sentences
from dataset_prep.readers.jsonl import read_image_keywords
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import locked
from recbole_msm4sr.data.feature_store import FeatureStore

SMALL = DemoSizes(n_items=60, n_users=50, clip_pictures=64, clip_steps=3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("dataset") / "demo", seed=5, sizes=SMALL)


def _files(folder: Path) -> dict[str, bytes]:
    """All files but the steps' summaries, which say when and how long."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.match("prep/*.json")
    }


def test_the_same_seed_gives_the_same_bytes_once_no_other_process_is_at_work(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "demo"
    with ThreadPoolExecutor(1) as pool:
        with locked(out.with_name(".demo.lock")):
            again = pool.submit(make_demo, out, seed=5, sizes=SMALL)
            time.sleep(0.3)
            assert [path.name for path in out.parent.iterdir()] == [".demo.lock"]
        first, second = _files(small), _files(again.result())
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert [path.name for path in out.parent.iterdir()] == ["demo"]


def test_another_seed_gives_other_data() -> None:
    items = [make_items(60, np.random.default_rng(seed)) for seed in (1, 2)]
    assert items[0] != items[1]


def test_every_file_is_there_and_covers_the_same_items(small: Path) -> None:
    tokens = [line.split("\t")[0] for line in (small / "demo.item").read_text(encoding="utf-8").splitlines()[1:]]
    sentences, pictures = (
        dict(text_sentences(small / "text.jsonl", 10)),
        read_image_keywords(small / "image_keywords.jsonl"),
    )
    assert list(sentences) == tokens
    taken = {line.split("\t")[1] for line in (small / "demo.inter").read_text(encoding="utf-8").splitlines()[1:]}
    assert set(tokens) == taken
    for modality, by_item in (("text", sentences), ("image", pictures)):
        store = FeatureStore.open(small / "features" / modality)
        store.verify()
        assert store.item_tokens == tokens
        rows = dict(zip(tokens, np.diff(store.offsets).tolist(), strict=True))
        assert rows == {token: len(by_item.get(token, [])) for token in tokens}
    assert {len(words) for words in pictures[tokens[0]]} == {SMALL.top_n}
    assert (small / "raw" / "words.txt").read_text(encoding="utf-8").split() == dictionary()
    assert "Everything in this folder is generated" in (small / "README.txt").read_text(encoding="utf-8")


def test_the_atomic_files_are_recboles(small: Path) -> None:
    inter = (small / "demo.inter").read_text(encoding="utf-8").splitlines()
    assert inter[0] == "user_id:token\titem_id:token\ttimestamp:float"
    assert (small / "demo.item").read_text(encoding="utf-8").startswith("item_id:token\tclass:token_seq\tbrand:token\n")
    histories = defaultdict(list)
    for line in inter[1:]:
        user, item, timestamp = line.split("\t")
        histories[user].append((float(timestamp), item))
    assert len(histories) == SMALL.n_users
    for history in histories.values():
        assert 5 <= len(history) <= 15
        assert len({item for _, item in history}) == len(history)
        # RecBole keeps float32, which is coarse (128 s) for times since 1970: the order has to survive it
        assert all(np.float32(a) < np.float32(b) for (a, _), (b, _) in pairwise(history))


def test_interactions_have_a_long_tail_and_follow_content() -> None:
    rng = np.random.default_rng(2020)
    items = {item.token: item for item in make_items(900, rng)}
    events = make_interactions(list(items.values()), 2000, rng)
    counts = Counter(event.item for event in events)
    assert 7.5 < len(events) / 2000 < 8.5
    assert sum(counts[token] < 10 for token in items) > 900 / 3
    same = [
        (items[a.item].theme == items[b.item].theme, items[a.item].colour == items[b.item].colour)
        for a, b in pairwise(events)
        if a.user == b.user
    ]
    assert np.mean(same, axis=0).min() > 2 / 8  # one in eight by chance


def test_keywords_of_new_pictures_are_true(tmp_path: Path) -> None:
    """Precision at 5 of the trained CLIP on pictures it has not seen; 6 of 62 words are true of each."""
    words = dictionary()
    build_clip(tmp_path, make_items(600, np.random.default_rng(1)), words, seed=1, steps=140)
    rng = np.random.default_rng(2)
    items = make_items(100, rng)
    clip = Clip(str(tmp_path), "cpu")
    vectors = clip.encode(np.stack([clip.pixels(draw(item, rng)) for item in items]))
    found = [[words[place] for place in row] for row in nearest_words(vectors, clip.encode_words(words), 5).tolist()]
    true = [len(item.visual_words().intersection(top)) / 5 for item, top in zip(items, found, strict=True)]
    chance = 6 / len(words)
    print(f"precision@5 {np.mean(true):.3f}, by chance {chance:.3f}")
    assert np.mean(true) > 5 * chance


def test_vectors_of_different_sentences_differ(small: Path) -> None:
    encoder = load_sentence_encoder(str(small / "encoders" / "demo-sentence-encoder"), "cpu")
    sentences = sorted({text for texts in dict(text_sentences(small / "text.jsonl", 10)).values() for text in texts})
    vectors = encoder.encode(sentences)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors @ vectors.T
    different = ~np.eye(len(sentences), dtype=bool)
    assert cosine[different].mean() < 0.6


def test_a_failure_midway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(demo, "prepare", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        make_demo(tmp_path / "demo", sizes=SMALL)
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_only_replaced_when_asked_and_only_if_generated(
    tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "demo"
    mine.mkdir()
    (mine / "thesis.txt").touch()
    (mine / "README.txt").write_text("my thesis", encoding="utf-8")
    assert main(["demo", "--out", str(mine)]) == 2
    assert "exists already" in capsys.readouterr().err
    with pytest.raises(UserError, match="is not a generated data set"):
        make_demo(mine, sizes=SMALL, overwrite=True)
    assert (mine / "thesis.txt").exists()
    shutil.copytree(small, tmp_path / "earlier")
    make_demo(tmp_path / "earlier", seed=6, sizes=SMALL, overwrite=True)
    assert "(seed 6)" in (tmp_path / "earlier" / "README.txt").read_text(encoding="utf-8")


def test_impossible_sizes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="n-items is 39: Input should be greater than or equal to 40"):
        DemoSizes(n_items=39)
    assert main(["demo", f"--out={tmp_path / 'demo'}", "--seed=-1"]) == 2
    assert "--seed is '-1'" in capsys.readouterr().err
    assert main(["demo", "--out=."]) == 2
    assert "exists already" in capsys.readouterr().err
