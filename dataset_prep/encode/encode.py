"""Sentences -> feature stores: the Sentence-BERT half of eq. 1 and 2.

Text: row j of an item is BERT(t_j), its j-th sentence (eq. 1). Pictures: row l is BERT(concat(TopN words of picture
l)) (eq. 2). Both are lists of sentences per item, so one encoder and one numbering of sentences serve both.

Three stages. Rank 0 reads the files and numbers the distinct sentences (``distinct``, ``rows``); all ranks encode them
in shards (``vectors``); rank 0 writes each item's rows from the shards to the stores, as a stream.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dataset_prep.encode.distinct import DistinctSentences
from dataset_prep.encode.rows import Rows, number_sentences
from dataset_prep.encode.sentence_encoder import SentenceEncoder
from dataset_prep.encode.shards import wait_until_visible
from dataset_prep.encode.vectors import SHARD_SIZE, SentenceVectors
from dataset_prep.layout import Layout
from dataset_prep.text.sentences import MAX_SENTENCES
from recbole_msm4sr.core.distributed import once
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_store import FeatureStore

logger = logging.getLogger(__name__)

_STEP = "features"
_KINDS = {"text": "text", "image": "image keywords"}
_PROBE = 64  # sentences that a faster arithmetic is tried on


def encode_dataset(
    out: str | os.PathLike[str],
    encoder: SentenceEncoder,
    *,
    text: str | os.PathLike[str] | None = None,
    keywords: str | os.PathLike[str] | None = None,
    max_sentences: int = MAX_SENTENCES,
    batch_size: int | None = None,
    shard_size: int = SHARD_SIZE,
    precision: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    overwrite: bool = False,
    beside: Collection[str] = (),
) -> dict[str, FeatureStore]:
    """Write ``out/features/text`` from ``text.jsonl`` and ``out/features/image`` from ``image_keywords.jsonl``.

    With both files, each store covers the items of both: an item that only the other file names gets 0 rows. Equal
    sentences, of one item or of several, of one modality or of both, are encoded once. Runs under torchrun, and goes on
    where it was interrupted.

    Memory, besides the model: rank 0 holds 8 bytes a row, some 300 bytes an item, and while it reads the files 130
    bytes a distinct sentence; the others hold one shard.

    Args:
        batch_size: sentences of 32 tokens a batch (see ``SentenceEncoder.encode``); left out, what suits the device.
        shard_size: sentences between two points where an interrupted run can go on.
        precision: ``float32``, ``bfloat16`` or ``float16``; left out, ``SentenceEncoder.fast_precision``.
        options: modality -> what its manifest records besides ``kind``, ``max_sentences``, ``precision`` and
            ``n_distinct_sentences``; must fit into JSON.
        beside: modalities that the caller encodes with this encoder in calls of their own: what their stores hold now
            need not fit.

    Returns:
        The stores by modality, ``text`` and ``image``.

    Raises:
        UserError: neither file is given, one cannot be used (see ``rows``), no item has anything to encode, the encoder
            gives NaN or infinite values, a store exists and ``overwrite`` is false, or the other modality's store,
            which stays, has sentence vectors of another length.
    """
    sources = {modality: Path(path) for modality, path in (("text", text), ("image", keywords)) if path is not None}
    if not sources:
        raise UserError("there is nothing to encode: give text, image keywords, or both")
    layout = Layout.of(out)
    targets = {modality: layout.features(modality) for modality in sources}
    rows: dict[str, Rows] = {}  # on rank 0

    def read() -> tuple[str, str, int]:
        for target in targets.values():
            if target.exists() and not overwrite:  # before an hour of encoding, not after
                raise UserError(f"{target} exists already: remove it, or ask to overwrite it")
        _check_other_store(layout, {*sources, *beside}, encoder)
        folder, by_modality = number_sentences(layout.shards(_STEP), sources, max_sentences)
        rows.update(by_modality)
        sentences = DistinctSentences(folder)
        sample = [sentences.read(range(n, n + 1))[0] for n in range(0, len(sentences), -(-len(sentences) // _PROBE))]
        return str(folder), precision or encoder.fast_precision(sample), batch_size or encoder.default_batch_size

    folder, chosen, size = once(read)  # on rank 0, so that all ranks do the same
    wait_until_visible(Path(folder))
    sentences = DistinctSentences(folder)
    settings = {"sentences": Path(folder).name, "precision": chosen, "batch_size": size}
    vectors = SentenceVectors(layout.shards(_STEP) / "vectors", settings, sentences, encoder, shard_size)
    vectors.compute()

    def join() -> None:
        items = list(dict.fromkeys(item for by_item in rows.values() for item in by_item.position))
        for modality, own in rows.items():
            store = FeatureStore.write(
                targets[modality],
                items,
                (vectors.of(own.of(item)) for item in items),
                encoder=encoder.name,
                revision=encoder.revision,
                options={
                    "kind": _KINDS[modality],
                    **({"max_sentences": max_sentences} if modality == "text" else {}),
                    "precision": chosen,
                    **(options or {}).get(modality, {}),
                    "n_distinct_sentences": own.n_distinct,
                },
                overwrite=overwrite,
            )
            logger.info("features/%s: %s", modality, _described(store))
        shutil.rmtree(layout.shards(_STEP))
        for parent in (layout.shards(_STEP).parent, layout.prep):
            if not any(parent.iterdir()):  # no other step has anything there
                parent.rmdir()

    once(join)
    return {modality: _open(target) for modality, target in targets.items()}


def _check_other_store(layout: Layout, written: set[str], encoder: SentenceEncoder) -> None:
    """Text and picture words are meant to lie in one space (section III-A); other picture features need not."""
    for modality in {*_KINDS} - written:
        path = layout.features(modality)
        if not path.exists():
            continue
        other = FeatureStore.open(path)
        if other.manifest["options"].get("kind") != _KINDS[modality]:
            continue
        if other.dim != encoder.dim:
            raise UserError(
                f"{path} has vectors of length {other.dim} by {other.manifest['encoder']}, {encoder.name} gives "
                f"{encoder.dim}: encode both with one encoder, or remove that store"
            )
        if (other.manifest["encoder"], other.manifest["revision"]) != (encoder.name, encoder.revision):
            logger.warning("%s was made by another encoder, %s: encode both with one", path, other.manifest["encoder"])


def _described(store: FeatureStore) -> str:
    n_without = int((store.offsets[1:] == store.offsets[:-1]).sum())
    return (
        f"{store.n_rows:,} rows for {store.n_items:,} items ({n_without:,} without), "
        f"{store.manifest['options']['n_distinct_sentences']:,} distinct sentences, dim {store.dim}, "
        f"encoder {store.manifest['encoder']}, {store.manifest['options']['precision']}"
    )


def _open(path: Path) -> FeatureStore:
    wait_until_visible(path)
    return FeatureStore.open(path)
