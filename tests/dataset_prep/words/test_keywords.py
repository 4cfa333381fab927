"""Pictures -> words."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_prep.__main__ import main
from dataset_prep.demo.catalogue import dictionary, make_items
from dataset_prep.demo.encoders import build_clip
from dataset_prep.pictures.folder import find_pictures
from dataset_prep.records import read_image_keywords
from dataset_prep.words.keywords import extract_keywords
from dataset_prep.words.tagger import PictureTagger, read_words
from recbole_msm4sr.errors import UserError


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP, next to untrained: what it says is of no matter here."""
    folder = tmp_path_factory.mktemp("clip")
    build_clip(folder, make_items(64, np.random.default_rng(0)), dictionary(), seed=0, steps=2, dim=16)
    return folder


@pytest.fixture(scope="module")
def tagger(clip: Path) -> PictureTagger:
    return PictureTagger(str(clip), dictionary(), "cpu")


def _picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, size=(60, 48, 3), dtype=np.uint8))


def test_words_are_those_of_highest_cosine_best_first(tagger: PictureTagger) -> None:
    pictures = [_picture(seed) for seed in range(3)]
    words = tagger.keywords(pictures, top_n=4)
    with torch.inference_mode():  # one picture, one word at a time, by the model's own similarity
        for picture, found in zip(pictures, words, strict=True):
            pixels = tagger.image_processor(images=picture, return_tensors="pt")["pixel_values"]
            similarity = {}
            for word in tagger.words:
                tokens = tagger.tokenizer(word, return_tensors="pt")
                output = tagger.model(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=pixels
                )
                similarity[word] = float(output.image_embeds[0] @ output.text_embeds[0])
            best = sorted(similarity.values(), reverse=True)[:4]
            np.testing.assert_allclose([similarity[word] for word in found], best, atol=1e-5)


def test_the_dictionary_is_encoded_once(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = PictureTagger(str(clip), ["red", "blue", "red", " "], "cpu")
    assert tagger.words == ["red", "blue"]
    np.testing.assert_allclose(torch.linalg.vector_norm(tagger.word_vectors, dim=-1).numpy(), [1, 1], rtol=1e-5)
    monkeypatch.setattr(tagger.model, "get_text_features", None)  # would fail if it were called again
    assert {len(words) for words in tagger.keywords([_picture(1), _picture(2)], top_n=15)} == {2}


def test_pictures_are_found_by_all_three_namings_in_order(tmp_path: Path) -> None:
    for name in ("B_10.png", "B_2.PNG", "B.jpg", "A/z.jpg", "A/b.webp", "C_1.jpeg", "B/x.png", ".hidden.png", "C.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = find_pictures(tmp_path)
    names = {item: [str(path.relative_to(tmp_path)) for path in paths] for item, paths in found.items()}
    assert names == {
        "A": ["A/b.webp", "A/z.jpg"],
        "B": ["B.jpg", "B_2.PNG", "B_10.png", "B/x.png"],
        "C": ["C_1.jpeg"],
    }
    assert list(names) == ["A", "B", "C"]


def test_damaged_pictures_are_skipped_counted_and_named(
    tmp_path: Path, tagger: PictureTagger, caplog: pytest.LogCaptureFixture
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("A.png", "A_2.png", "C.jpg"):
        _picture(len(name)).save(images / name)
    whole = (images / "C.jpg").read_bytes()
    (images / "A_3.jpg").write_bytes(whole[: len(whole) // 2])  # a download that broke off
    (images / "B.png").write_text("<html>404</html>", encoding="utf-8")
    with caplog.at_level(logging.INFO, logger="dataset_prep"):
        report = extract_keywords(images, tagger, tmp_path / "out.jsonl", top_n=3, batch_size=2)
    assert {item: len(words) for item, words in read_image_keywords(tmp_path / "out.jsonl").items()} == {
        "A": 2,
        "B": 0,
        "C": 1,
    }
    assert (report.n_items, report.n_pictures) == (3, 3)
    assert sorted(path.name for path in report.undecodable) == ["A_3.jpg", "B.png"]
    assert "2 pictures cannot be decoded" in caplog.text
    assert "B.png" in caplog.text


def test_batches_do_not_change_the_words(tmp_path: Path, tagger: PictureTagger) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(5):
        _picture(number).save(images / f"P{number}.png")
    results = []
    for batch_size in (1, 3, 64):
        extract_keywords(images, tagger, tmp_path / "out.jsonl", batch_size=batch_size)
        results.append(read_image_keywords(tmp_path / "out.jsonl"))
    assert {len(words) for pictures in results[0].values() for words in pictures} == {15}
    assert results[0] == results[1] == results[2]


def test_unusable_input_is_a_user_error(tmp_path: Path, tagger: PictureTagger, clip: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        find_pictures(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no picture"):
        find_pictures(tmp_path)
    with pytest.raises(UserError, match="word dictionary is empty"):
        PictureTagger(str(clip), ["", " "], "cpu")
    with pytest.raises(UserError, match="no CLIP model can be loaded from the folder"):
        PictureTagger(str(tmp_path), ["red"], "cpu")
    with pytest.raises(UserError, match="cannot be read"):
        read_words(tmp_path / "absent.txt")
    (tmp_path / "A.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(UserError, match="none of the 1 pictures"):
        extract_keywords(tmp_path, tagger, tmp_path / "out.jsonl")


def test_the_command_writes_one_line_per_item(tmp_path: Path, clip: Path) -> None:
    images = tmp_path / "images"
    (images / "B").mkdir(parents=True)
    _picture(1).save(images / "A.png")
    _picture(2).convert("L").save(images / "B" / "front.jpg")  # a grey picture is a picture
    (tmp_path / "words.txt").write_text("red\n\nblue\nround\n", encoding="utf-8")
    arguments = ["keywords", "--images", str(images), "--clip", str(clip), "--words", str(tmp_path / "words.txt")]
    assert main([*arguments, "--top-n", "2", "--out", str(tmp_path / "out.jsonl"), "--device", "cpu"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["item_id"] for line in lines] == ["A", "B"]
    assert all(
        len(words) == 2 and set(words) <= {"red", "blue", "round"} for line in lines for words in line["keywords"]
    )
