"""Our own loop over batches gives what the library's gives."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from dataset_prep.demo.encoders import build_sentence_encoder
from dataset_prep.encode import sentence_encoder as encoder_module
from dataset_prep.encode.sentence_encoder import SentenceEncoder, batches, forward, load_sentence_encoder

WORDS = ["a", "red", "green", "blue", "mug", "lamp", "chair", "with", "two", "of", "wood", "steel", "and"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    folder = tmp_path_factory.mktemp("encoder")
    build_sentence_encoder(folder, WORDS, seed=1, dim=16)
    return load_sentence_encoder(str(folder), "cpu")


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=n)) for n in rng.integers(1, 80, size=50)]  # some are cut at 64 tokens


@pytest.mark.parametrize("batch_tokens", [1, 200, 10_000])
def test_vectors_are_those_of_the_library_in_the_same_order(
    encoder: SentenceEncoder, sentences: list[str], batch_tokens: int
) -> None:
    expected = encoder.model.encode(sentences, show_progress_bar=False)
    found = forward(encoder.model, sentences, batch_tokens, at_once=20)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_may_be_on_either_side(
    encoder: SentenceEncoder, sentences: list[str], side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder.model.tokenizer, "padding_side", side)
    seen: list[torch.Tensor] = []
    hook = encoder.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]["attention_mask"]))
    try:
        forward(encoder.model, sentences, 400)
    finally:
        hook.remove()
    assert len(seen) > 1
    end = 0 if side == "left" else -1
    for mask in seen:
        assert mask.numel() <= 400
        assert mask.any(dim=0).all(), "no column is padding in all rows"
        assert mask[0].all(), "the longest comes first"
        assert mask[-1, end] == (mask[-1].all()), "padding is where the tokenizer puts it"


def test_the_model_s_own_prompt_goes_before_every_sentence(
    encoder: SentenceEncoder, sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = forward(encoder.model, sentences, 400)
    monkeypatch.setattr(encoder.model, "prompts", {"passage": "two of "})
    monkeypatch.setattr(encoder.model, "default_prompt_name", "passage")
    prompted = forward(encoder.model, sentences, 400)
    np.testing.assert_allclose(prompted, encoder.model.encode(sentences), rtol=1e-4, atol=1e-6)
    assert np.abs(prompted - plain).max() > 0.01


def test_a_model_without_tokens_is_left_to_the_library() -> None:
    class Static:
        """As a bag-of-words model is: it makes no ``attention_mask``."""

        device = torch.device("cpu")
        default_prompt_name = None

        def preprocess(self, sentences: list[str], **_: Any) -> dict[str, Any]:
            return {"input_ids": torch.zeros(7), "offsets": torch.zeros(len(sentences))}

        def encode(self, sentences: list[str], **_: Any) -> np.ndarray:
            return np.array([[len(sentence)] for sentence in sentences])

    assert forward(Static(), ["a", "bbb"], 8).tolist() == [[1], [3]]  # type: ignore[arg-type]


def test_batches_hold_every_sentence_once_longest_first_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, size=300)
    found = list(batches(lengths, 128))
    assert sorted(np.concatenate(found).tolist()) == list(range(300))
    assert all(len(rows) * lengths[rows].max() <= 128 for rows in found)
    assert (np.diff(lengths[np.concatenate(found)]) <= 0).all()
    assert [rows.tolist() for rows in batches(np.array([5, 9, 2]), 4)] == [[1], [0], [2]]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_faster_arithmetic_is_used_where_it_keeps_the_vectors(
    encoder: SentenceEncoder, sentences: list[str], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "native_precision", lambda device: precision)
    assert encoder.fast_precision(sentences) == precision
    exact, fast = encoder.encode(sentences), encoder.encode(sentences, precision=precision)
    assert not np.array_equal(exact, fast)
    cosine = (exact * fast).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
    assert cosine.min() >= 0.9999
    monkeypatch.setattr(encoder_module, "LOWEST_COSINE", 1.0)
    assert encoder.fast_precision(sentences) == "float32"


def test_vectors_of_no_length_are_left_to_float32(
    encoder: SentenceEncoder, sentences: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclasses.dataclass(frozen=True)
    class Zeros(SentenceEncoder):
        def encode(self, sentences: Any, *_: Any, **__: Any) -> np.ndarray:
            return np.zeros((len(sentences), 2), dtype=np.float32)

    monkeypatch.setattr(encoder_module, "native_precision", lambda device: "bfloat16")
    assert Zeros(encoder.model, "zeros", None).fast_precision(sentences) == "float32"
