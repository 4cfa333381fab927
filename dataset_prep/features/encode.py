"""Sentences -> feature stores: the Sentence-BERT half of eq. 1 and 2.

Text: row j of an item is BERT(t_j), its j-th sentence (eq. 1). Pictures: row l is BERT(concat(TopN words of picture
l)) (eq. 2). Both are lists of sentences per item, so one function encodes either.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dataset_prep.features.sentence_encoder import SentenceEncoder
from dataset_prep.records import read_image_keywords
from dataset_prep.text.sentences import MAX_SENTENCES, read_sentences
from recbole_msm4sr.data.feature_store import FeatureStore
from recbole_msm4sr.errors import UserError

logger = logging.getLogger(__name__)

# Sentences handed to the encoder at a time. It sorts them by length within a block, so that a batch has little
# padding, and a block's vectors (float32) are all that is kept in memory.
BLOCK = 8192


def encode_dataset(
    out: str | os.PathLike[str],
    encoder: SentenceEncoder,
    *,
    text: str | os.PathLike[str] | None = None,
    keywords: str | os.PathLike[str] | None = None,
    max_sentences: int = MAX_SENTENCES,
    batch_size: int = 64,
    overwrite: bool = False,
) -> dict[str, FeatureStore]:
    """Write ``out/features/text`` from ``text.jsonl`` and ``out/features/image`` from ``image_keywords.jsonl``.

    With both files, each store covers the items of both: an item that only the other file names gets 0 rows.

    Returns:
        The stores by modality, ``text`` and ``image``.

    Raises:
        UserError: neither file is given, one cannot be used (see ``read_sentences``, ``read_image_keywords``), no
            item has anything to encode, or a store exists and ``overwrite`` is false.
    """
    if text is None and keywords is None:
        raise UserError("there is nothing to encode: give text, image keywords, or both")
    sentences: dict[str, dict[str, list[str]]] = {}
    if text is not None:
        sentences["text"] = read_sentences(text, max_sentences)
    if keywords is not None:
        sentences["image"] = {
            item: picture_sentences(pictures) for item, pictures in read_image_keywords(keywords).items()
        }
    targets = {modality: Path(out) / "features" / modality for modality in sentences}
    for modality, target in targets.items():
        if target.exists() and not overwrite:  # before an hour of encoding, not after
            raise UserError(f"{target} exists already: remove it, or ask to overwrite it")
        if not any(sentences[modality].values()):
            raise UserError(f"no item in {text if modality == 'text' else keywords} has anything to encode")
    items = list(dict.fromkeys(item for by_item in sentences.values() for item in by_item))
    options: dict[str, dict[str, Any]] = {
        "text": {"kind": "text", "max_sentences": max_sentences},
        "image": {"kind": "image keywords"},
    }
    return {
        modality: encode_items(
            targets[modality],
            {item: by_item.get(item, []) for item in items},
            encoder,
            options=options[modality],
            batch_size=batch_size,
            overwrite=overwrite,
        )
        for modality, by_item in sentences.items()
    }


def picture_sentences(pictures: Sequence[Sequence[str]]) -> list[str]:
    """concat(.) of eq. 2: each picture's words as one sentence. A picture without words gives none."""
    return [sentence for sentence in (" ".join(words).strip() for words in pictures) if sentence]


def encode_items(
    path: str | os.PathLike[str],
    sentences: Mapping[str, Sequence[str]],
    encoder: SentenceEncoder,
    *,
    options: Mapping[str, Any],
    batch_size: int = 64,
    overwrite: bool = False,
) -> FeatureStore:
    """Encode every item's sentences into a store; rows are in the order of the sentences.

    Equal sentences, of one item or of several, are encoded once. The vectors of the distinct ones lie in a temporary
    file, so memory stays at one block of them whatever the size of the catalogue.

    Args:
        sentences: item -> its sentences, ``[]`` for an item without this modality.
        options: what the manifest records, besides the number of distinct sentences.

    Raises:
        UserError: no item has a sentence, or the store exists and ``overwrite`` is false.
    """
    number: dict[str, int] = {}  # sentence -> its row among the distinct ones
    for item_sentences in sentences.values():
        for sentence in item_sentences:
            number.setdefault(sentence, len(number))
    if not number:
        raise UserError(f"no item has a sentence to encode into {path}")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent) as folder:
        vectors = _encode_distinct(list(number), encoder, batch_size, Path(folder) / "distinct.npy")  # [n, dim]

        def rows() -> Iterator[NDArray[np.float32]]:
            for item_sentences in sentences.values():
                yield vectors[[number[sentence] for sentence in item_sentences]]  # [r_i, dim]

        store = FeatureStore.write(
            target,
            list(sentences),
            rows(),
            encoder=encoder.name,
            revision=encoder.revision,
            options={**options, "n_distinct_sentences": len(number)},
            overwrite=overwrite,
        )
    n_without = sum(not item_sentences for item_sentences in sentences.values())
    logger.info(
        "%s: %d rows for %d items (%d items without), %d distinct sentences, dim %d, encoder %s",
        *(
            f"{target.parent.name}/{target.name}",
            store.n_rows,
            store.n_items,
            n_without,
            len(number),
            store.dim,
            encoder.name,
        ),
    )
    return store


def _encode_distinct(
    sentences: Sequence[str], encoder: SentenceEncoder, batch_size: int, path: Path
) -> NDArray[np.float32]:
    """Vectors of distinct sentences as a memory-mapped file, float32 ``[len(sentences), dim]``."""
    vectors: NDArray[np.float32] | None = None
    with tqdm(total=len(sentences), unit="sentence", disable=None) as progress:  # None: only on a terminal
        for start in range(0, len(sentences), BLOCK):
            block = encoder.encode(sentences[start : start + BLOCK], batch_size)  # [b, dim]
            if vectors is None:
                shape = (len(sentences), block.shape[1])
                vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            vectors[start : start + len(block)] = block
            progress.update(len(block))
    assert vectors is not None, "the caller passes one sentence at least"
    return vectors
