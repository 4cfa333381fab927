"""Sentences -> feature stores: the Sentence-BERT half of eq. 1 and 2.

Text: row j of an item is BERT(t_j), its j-th sentence (eq. 1). Pictures: row l is BERT(concat(TopN words of picture
l)) (eq. 2). Both are lists of sentences per item, so one encoder and one numbering of sentences serve both.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_prep.encode.sentence_encoder import SentenceEncoder
from dataset_prep.encode.shards import ShardedRows, wait_until_visible
from dataset_prep.encode.stores import write_store
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import read_records, record_keywords
from dataset_prep.text.sentences import MAX_SENTENCES, record_sentences
from recbole_msm4sr.core.distributed import once
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_store import FeatureStore

logger = logging.getLogger(__name__)

#: Sentences a shard: seconds of work, and enough to sort by length.
SHARD_SIZE = 2048
_KINDS = {"text": "text", "image": "image keywords"}
_PROBE = 64  # sentences that a faster arithmetic is tried on
_SHOWN = 80  # characters of a sentence in a message


def encode_dataset(
    out: str | os.PathLike[str],
    encoder: SentenceEncoder,
    *,
    text: str | os.PathLike[str] | None = None,
    keywords: str | os.PathLike[str] | None = None,
    max_sentences: int = MAX_SENTENCES,
    shard_size: int = SHARD_SIZE,
    precision: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    overwrite: bool = False,
    beside: Collection[str] = (),
) -> dict[str, FeatureStore]:
    """Write ``out/features/text`` from ``text.jsonl`` and ``out/features/image`` from ``image_keywords.jsonl``.

    With both files, each store covers the items of both: an item that only the other file names gets 0 rows. Equal
    sentences, of one item or of several, of one modality or of both, are encoded once. Runs under torchrun, and goes on
    where it was interrupted. Every process holds the distinct sentences in memory.

    Args:
        shard_size: sentences between two points where an interrupted run can go on.
        precision: ``float32``, ``bfloat16`` or ``float16``; left out, ``SentenceEncoder.fast_precision``.
        options: modality -> what its manifest records besides ``kind``, ``max_sentences``, ``precision`` and
            ``n_distinct_sentences``; must fit into JSON.
        beside: modalities that the caller encodes with this encoder in calls of their own: what their stores hold now
            need not fit.

    Returns:
        The stores by modality, ``text`` and ``image``.

    Raises:
        UserError: neither file is given, one cannot be used, no item has anything to encode, the encoder gives NaN or
            infinite values, a store exists and ``overwrite`` is false, or the other modality's store, which stays, has
            sentence vectors of another length.
    """
    sources = {modality: Path(path) for modality, path in (("text", text), ("image", keywords)) if path is not None}
    if not sources:
        raise UserError("there is nothing to encode: give text, image keywords, or both")
    layout = Layout.of(out)
    once(lambda: _check(layout, sources, encoder, overwrite=overwrite, beside=beside))
    number: dict[str, int] = {}  # of every distinct sentence
    numbers = {modality: _numbers(modality, path, max_sentences, number) for modality, path in sources.items()}
    sentences = list(number)
    chosen = once(lambda: precision or encoder.fast_precision(sentences[:: -(-len(sentences) // _PROBE)]))
    rows = _encode(layout, encoder, sentences, chosen, shard_size)

    def join() -> None:
        items = list(dict.fromkeys(item for by_item in numbers.values() for item in by_item))
        for modality, by_item in numbers.items():
            described = {
                "kind": _KINDS[modality],
                **({"max_sentences": max_sentences} if modality == "text" else {}),
                "precision": chosen,
                **(options or {}).get(modality, {}),
                "n_distinct_sentences": len({row for own in by_item.values() for row in own}),
            }
            of_items = (_stacked(rows, by_item.get(item, ())) for item in items)
            write_store(layout.features(modality), items, of_items, encoder, described, overwrite=overwrite)
        rows.discard()
        for parent in (rows.folder.parent, layout.prep):
            if not any(parent.iterdir()):  # no other step has anything there
                parent.rmdir()

    once(join)
    for modality in sources:
        wait_until_visible(layout.features(modality))
    return {modality: FeatureStore.open(layout.features(modality)) for modality in sources}


def text_sentences(path: str | os.PathLike[str], max_sentences: int) -> Iterator[tuple[str, list[str]]]:
    """Items of ``text.jsonl`` and at most ``max_sentences`` sentences of each: T_i of eq. 1.

    Raises:
        UserError: as ``readers.jsonl.read_records`` and ``text.sentences.record_sentences``.
    """
    for where, item_id, record in read_records(path):
        yield item_id, record_sentences(record, where, max_sentences)


def keyword_sentences(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    """Items of ``image_keywords.jsonl`` and one sentence a picture: concat(TopN) of eq. 2.

    A picture without words gives none, and an item without ``keywords`` has no pictures.

    Raises:
        UserError: as ``readers.jsonl.read_records`` and ``readers.jsonl.record_keywords``.
    """
    for where, item_id, record in read_records(path):
        joined = (" ".join(words).strip() for words in record_keywords(record, where))
        yield item_id, [sentence for sentence in joined if sentence]


def _check(
    layout: Layout,
    sources: Mapping[str, Path],
    encoder: SentenceEncoder,
    *,
    overwrite: bool,
    beside: Collection[str],
) -> None:
    """Raise a ``UserError`` for what could not be written after an hour of encoding.

    Text and picture words are meant to lie in one space (section III-A); other picture features need not.
    """
    for modality, path in sources.items():
        if not path.is_file():
            raise UserError(f"{path} is not a file: give a file of JSON lines, one item a line")
        if layout.features(modality).exists() and not overwrite:
            raise UserError(f"{layout.features(modality)} exists already: remove it, or ask to overwrite it")
    for modality in {*_KINDS} - {*sources, *beside}:
        path = layout.features(modality)
        other = FeatureStore.open(path) if path.exists() else None
        if other is None or other.manifest["options"].get("kind") != _KINDS[modality]:
            continue
        if other.dim != encoder.dim:
            raise UserError(
                f"{path} has vectors of length {other.dim} by {other.manifest['encoder']}, {encoder.name} gives "
                f"{encoder.dim}: encode both with one encoder, or remove that store"
            )
        if (other.manifest["encoder"], other.manifest["revision"]) != (encoder.name, encoder.revision):
            logger.warning("%s was made by another encoder, %s: encode both with one", path, other.manifest["encoder"])


def _numbers(modality: str, path: Path, max_sentences: int, number: dict[str, int]) -> dict[str, list[int]]:
    """The numbers of every item's sentences, in order; a new sentence gets the next one.

    What UTF-8 cannot hold becomes ``?``.
    """
    items = text_sentences(path, max_sentences) if modality == "text" else keyword_sentences(path)
    numbers = {
        item: [number.setdefault(text.encode(errors="replace").decode(), len(number)) for text in sentences]
        for item, sentences in items
    }
    if not any(numbers.values()):
        raise UserError(f"no item in {path} has anything to encode")
    return numbers


def _encode(
    layout: Layout, encoder: SentenceEncoder, sentences: Sequence[str], precision: str, shard_size: int
) -> ShardedRows:
    settings = {
        "sentences": sentences,
        "encoder": encoder.name,
        "revision": encoder.revision,
        "precision": precision,
        "batch_size": encoder.batch_size,
    }
    rows = ShardedRows(layout.shards("features"), settings, n_rows=len(sentences), shard_size=shard_size)
    rows.compute(
        lambda inputs: [_as_stored(encoder, sentences[inputs.start : inputs.stop], precision)],
        unit="sentence",
        description="encoding sentences",
    )
    return rows


def _as_stored(encoder: SentenceEncoder, sentences: Sequence[str], precision: str) -> NDArray[np.float16]:
    """Vectors in the type of a feature store, float16 ``[n, dim]``."""
    vectors = encoder.encode(sentences, precision)
    with np.errstate(over="ignore"):
        half = vectors.astype(np.float16)
    bad = np.flatnonzero(~np.isfinite(half).all(axis=1))
    if len(bad):
        finite = bool(np.isfinite(vectors[bad[0]]).all())
        kind = "a value beyond float16's ±65504" if finite else "a NaN or infinite value"
        raise UserError(
            f"{encoder.name} gives {kind} for {len(bad)} of {len(sentences)} sentences, "
            f"{sentences[bad[0]][:_SHOWN]!r} for one: its weights may be damaged; try another encoder"
        )
    return half


def _stacked(rows: ShardedRows, numbers: Sequence[int]) -> NDArray[np.float16]:
    """The rows of an item, float16 ``[r, dim]``."""
    if not numbers:
        return np.empty((0, len(rows.row(0))), dtype=np.float16)
    return np.stack([rows.row(number) for number in numbers])
