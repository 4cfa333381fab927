"""Sentences -> feature stores."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataset_prep.__main__ import main
from dataset_prep.demo.encoders import build_sentence_encoder
from dataset_prep.encode.sentence_encoder import SentenceEncoder, load_sentence_encoder
from dataset_prep.encode.sentence_features import encode_dataset, keyword_sentences
from dataset_prep.readers.jsonl import write_records
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_store import FeatureStore


@dataclass(frozen=True)
class CountingEncoder(SentenceEncoder):
    """A sentence's vector is its length and its first letter's code; remembers what it was asked for."""

    model: Any = None
    name: str = "counting"
    revision: str | None = "r1"
    seen: list[str] = field(default_factory=list)

    @property
    def dim(self) -> int:
        return 2

    @property
    def batch_size(self) -> int:
        return 4

    def encode(self, sentences: Sequence[str], precision: str = "float32") -> np.ndarray:
        self.seen.extend(sentences)
        return np.array([vector(sentence) for sentence in sentences], dtype=np.float32)

    def fast_precision(self, sample: Sequence[str]) -> str:
        assert 1 <= len(sample) <= 64
        return "float32"


def vector(sentence: str) -> list[float]:
    return [float(len(sentence)), float(ord(sentence[0]))]


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


def write_text(folder: Path, sentences: Mapping[str, Sequence[str]]) -> Path:
    path = folder / "text.jsonl"
    write_records(path, ({"item_id": item, "sentences": texts} for item, texts in sentences.items()))
    return path


def write_keywords(folder: Path, pictures: Mapping[str, Sequence[Sequence[str]]]) -> Path:
    path = folder / "image_keywords.jsonl"
    write_records(path, ({"item_id": item, "keywords": words} for item, words in pictures.items()))
    return path


def left_in(folder: Path) -> list[str]:
    """Finished shards and everything else of an unfinished step."""
    return sorted(path.name for path in folder.glob("prep/**/*") if path.is_file())


def test_rows_keep_items_and_sentences_in_order(tmp_path: Path, encoder: CountingEncoder) -> None:
    sentences = {"z": ["bbb", "a"], "none": [], "a": ["a", "cc", "bbb"]}
    store = encode_dataset(tmp_path, encoder, text=write_text(tmp_path, sentences), shard_size=2)["text"]
    assert store.item_tokens == ["z", "none", "a"]
    assert store.offsets.tolist() == [0, 2, 2, 5]
    expected = [vector(sentence) for texts in sentences.values() for sentence in texts]
    np.testing.assert_array_equal(store.values, expected)
    assert not (tmp_path / "prep").exists(), "the shards are joined: nothing is left of them"


def test_equal_sentences_are_encoded_once_across_items_shards_and_modalities(
    tmp_path: Path, encoder: CountingEncoder
) -> None:
    text = write_text(tmp_path, {"1": ["a", "b", "c"], "2": ["c", "a"], "3": ["d mug"]})
    keywords = write_keywords(tmp_path, {"1": [["d", "mug"], ["e"]], "4": [["a"]]})
    stores = encode_dataset(tmp_path, encoder, text=text, keywords=keywords, shard_size=2)
    assert sorted(encoder.seen) == ["a", "b", "c", "d mug", "e"]
    assert stores["text"].values[:, 1].tolist() == [ord(letter) for letter in "abccad"]
    assert stores["image"].values[:, 1].tolist() == [ord(letter) for letter in "dea"]
    assert stores["text"].manifest["options"]["n_distinct_sentences"] == 4
    assert stores["image"].manifest["options"]["n_distinct_sentences"] == 3


def test_both_stores_cover_the_items_of_both_files(tmp_path: Path, encoder: CountingEncoder) -> None:
    text = write_text(tmp_path, {"1": ["A mug."], "2": []})
    keywords = write_keywords(tmp_path, {"3": [["cup", "mug"], ["lid"]], "1": []})
    stores = encode_dataset(
        tmp_path, encoder, text=text, keywords=keywords, max_sentences=4, options={"image": {"top_n": 15}}
    )
    assert {modality: store.item_tokens for modality, store in stores.items()} == {
        "text": ["1", "2", "3"],
        "image": ["1", "2", "3"],
    }
    assert stores["text"].offsets.tolist() == [0, 1, 1, 1]
    assert stores["image"].offsets.tolist() == [0, 0, 0, 2]
    np.testing.assert_array_equal(stores["image"].values, [vector("cup mug"), vector("lid")])
    manifest = FeatureStore.open(tmp_path / "features" / "text").manifest
    assert (manifest["encoder"], manifest["revision"]) == ("counting", "r1")
    assert manifest["options"] == {
        "kind": "text",
        "max_sentences": 4,
        "precision": "float32",
        "n_distinct_sentences": 1,
    }
    assert stores["image"].manifest["options"] == {
        "kind": "image keywords",
        "precision": "float32",
        "top_n": 15,
        "n_distinct_sentences": 2,
    }


def test_a_pictures_words_become_one_sentence(tmp_path: Path) -> None:
    path = write_keywords(tmp_path, {"1": [["red", "mug"], [], ["lid"]], "2": []})
    assert dict(keyword_sentences(path)) == {"1": ["red mug", "lid"], "2": []}


def test_keywords_that_are_not_lists_of_words_are_named_by_line(tmp_path: Path, encoder: CountingEncoder) -> None:
    path = tmp_path / "image_keywords.jsonl"
    path.write_text('{"item_id": "1"}\n{"item_id": "2", "keywords": ["mug"]}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"image_keywords\.jsonl:2: \"keywords\" must be"):
        encode_dataset(tmp_path, encoder, keywords=path)


def test_an_existing_store_is_refused_before_anything_is_encoded(tmp_path: Path, encoder: CountingEncoder) -> None:
    text = write_text(tmp_path, {"1": ["A mug."]})
    encode_dataset(tmp_path, encoder, text=text)
    with pytest.raises(UserError, match="exists already"):
        encode_dataset(tmp_path, encoder, text=text)
    assert len(encoder.seen) == 1
    encode_dataset(tmp_path, encoder, text=text, overwrite=True)
    assert len(encoder.seen) == 2


def test_an_encoder_that_does_not_fit_the_other_store_is_refused_before_anything_is_encoded(
    tmp_path: Path, encoder: CountingEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    other = {"encoder": "another", "options": {"kind": "image keywords"}}
    FeatureStore.write(tmp_path / "features/image", ["1"], [np.zeros((1, 3))], **other)  # type: ignore[arg-type]
    text = write_text(tmp_path, {"1": ["A mug."]})
    with pytest.raises(UserError, match="length 3 by another, counting gives 2: encode both with one encoder"):
        encode_dataset(tmp_path, encoder, text=text)
    assert encoder.seen == []
    encode_dataset(tmp_path, encoder, text=text, keywords=write_keywords(tmp_path, {"1": [["a"]]}), overwrite=True)
    FeatureStore.write(  # of one length, but by another encoder
        tmp_path / "features/image",
        ["1"],
        [np.zeros((1, 2))],
        overwrite=True,
        **other,  # type: ignore[arg-type]
    )
    encode_dataset(tmp_path, encoder, text=text, overwrite=True)
    assert "was made by another encoder, another" in caplog.text


def test_vectors_of_pictures_need_not_be_as_long_as_those_of_the_text(tmp_path: Path, encoder: CountingEncoder) -> None:
    other = {"encoder": "resnet", "options": {"kind": "image resnet"}}
    FeatureStore.write(tmp_path / "features/image", ["1"], [np.zeros((1, 3))], **other)  # type: ignore[arg-type]
    encode_dataset(tmp_path, encoder, text=write_text(tmp_path, {"1": ["A mug."]}))
    assert FeatureStore.open(tmp_path / "features/text").dim == 2


def test_a_file_in_which_no_item_has_text_is_refused(tmp_path: Path, encoder: CountingEncoder) -> None:
    text = tmp_path / "text.jsonl"
    write_records(text, [{"item_id": "1", "sentences": ["..."]}])
    with pytest.raises(UserError, match=r"no item in .*text\.jsonl has anything to encode"):
        encode_dataset(tmp_path, encoder, text=text)
    assert left_in(tmp_path) == []
    with pytest.raises(UserError, match="nothing to encode"):
        encode_dataset(tmp_path, encoder)


def test_text_that_utf8_cannot_hold_is_encoded_all_the_same(tmp_path: Path, encoder: CountingEncoder) -> None:
    text, keywords = tmp_path / "text.jsonl", tmp_path / "image_keywords.jsonl"
    text.write_text('{"item_id": "1", "sentences": ["half \\ud83d of a pair", "\u4e2d\u6587"]}\n', encoding="utf-8")
    keywords.write_text('{"item_id": "1", "keywords": [["a", "\\ud83d"]]}\n', encoding="utf-8")
    encode_dataset(tmp_path, encoder, text=text, keywords=keywords)
    assert encoder.seen[1:] == ["\u4e2d\u6587", "a ?"]


@dataclass(frozen=True)
class Faulty(CountingEncoder):
    """Goes wrong at the sentence ``c``."""

    fault: Exception | float = 0.0

    def encode(self, sentences: Sequence[str], precision: str = "float32") -> np.ndarray:
        vectors = super().encode(sentences, precision)
        if "c" in sentences:
            if isinstance(self.fault, Exception):
                raise self.fault
            vectors[list(sentences).index("c"), 1] = self.fault
        return vectors


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "a NaN or infinite value"), (np.inf, "a NaN"), (1e6, "beyond float16")]
)
def test_a_vector_that_no_store_can_hold_is_an_error_that_names_the_sentence(
    tmp_path: Path, value: float, message: str
) -> None:
    text = write_text(tmp_path, {"1": ["a", "b"], "2": ["c"]})
    with pytest.raises(UserError, match=rf"counting gives .*{message}.* for 1 of 1 sentences, 'c' for one"):
        encode_dataset(tmp_path, Faulty(fault=value), text=text, shard_size=2)
    assert not (tmp_path / "features").exists()


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(tmp_path: Path, encoder: CountingEncoder) -> None:
    sentences = {"1": ["a", "b"], "2": ["c", "a", "d"], "3": ["e"]}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        folder.mkdir()
        write_text(folder, sentences)
    encode_dataset(whole, CountingEncoder(), text=whole / "text.jsonl", shard_size=2)
    interrupted = Faulty(fault=RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        encode_dataset(resumed, interrupted, text=resumed / "text.jsonl", shard_size=2)
    assert not (resumed / "features").exists()
    encode_dataset(resumed, encoder, text=resumed / "text.jsonl", shard_size=2)
    assert encoder.seen == ["c", "d", "e"]
    assert contents(resumed / "features") == contents(whole / "features")


@pytest.mark.parametrize("change", ["revision", "precision", "sentences"])
def test_shards_of_another_encoder_or_other_sentences_are_never_reused(tmp_path: Path, change: str) -> None:
    text = write_text(tmp_path, {"1": ["a", "b"], "2": ["c"]})
    with pytest.raises(RuntimeError):
        encode_dataset(tmp_path, Faulty(fault=RuntimeError("interrupted")), text=text, shard_size=2)
    if change == "sentences":
        write_text(tmp_path, {"1": ["a", "x"], "2": ["c"]})
    encoder = CountingEncoder(revision="r2" if change == "revision" else "r1")
    precision = "bfloat16" if change == "precision" else None
    encode_dataset(tmp_path, encoder, text=text, shard_size=2, precision=precision)
    assert len(encoder.seen) == 3


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_folder_is_loaded_without_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a local model needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for seed in (1, 2):
        build_sentence_encoder(tmp_path / str(seed), ["A red mug.", "Two lamps."], seed=seed, dim=16)
    encoder = load_sentence_encoder(str(tmp_path / "1"), "cpu")
    vectors = encoder.encode(["A red mug.", "Two lamps.", "A red mug."])
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
    assert "text.jsonl:1: not valid JSON" in message
    (tmp_path / "text.jsonl").write_text('{"item_id": "1", "title": "A red mug"}\n', encoding="utf-8")
    assert main([*arguments, "--sentence-encoder", str(tmp_path / "encoder")]) == 0
    assert FeatureStore.open(tmp_path / "mine" / "features" / "text").offsets.tolist() == [0, 1]
