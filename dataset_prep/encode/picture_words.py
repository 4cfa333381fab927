"""Pictures -> ``image_keywords.jsonl``: eq. 2 up to the sentence, for a whole data set and any number of processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataset_prep.encode.dictionary import dictionary_digest
from dataset_prep.encode.picture_encoder import Clip
from dataset_prep.encode.picture_rows import SHARD_SIZE, PictureRows, read_pictures
from dataset_prep.encode.shards import ShardedRows
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import write_records
from recbole_msm4sr.core.distributed import once
from recbole_msm4sr.core.errors import UserError

logger = logging.getLogger(__name__)

#: The figures of :func:`describe_pictures` that say where words come from: the image store's manifest repeats them.
ORIGIN = ("clip", "clip_revision", "top_n", "prompt", "dictionary_sha256", "dictionary_words")
_PROMPT = "{}"  # CLIP reads the bare word, as in the paper; recorded, so that another prompt could be told from it
_TOP_WORDS = 20  # words whose share of all is reported
_NO_WORD = np.int32(-1)
_WORD_BATCH = 256
_WORDS_A_SHARD = 8 * _WORD_BATCH


def describe_pictures(
    layout: Layout,
    clip: Clip,
    *,
    words: Sequence[str],
    top_n: int,
    batch_size: int,
    workers: int,
    shard_size: int = SHARD_SIZE,
) -> dict[str, Any]:
    """Write ``layout.keywords``: for every picture of ``layout.pictures`` the ``top_n`` words of D nearest to it.

    Items and pictures keep their order; a picture that cannot be decoded has ``[]`` in its place. Every distinct file
    is scored once. Runs under torchrun, and goes on where it was interrupted.

    Args:
        words: D, without repeats, such as ``read_words`` gives.
        top_n: N; all of D if it is smaller.
        batch_size: pictures at a time.
        workers: threads that decode pictures.
        shard_size: pictures between two points where an interrupted run can go on.

    Returns:
        Figures: ``items``, ``items_without_words``, ``pictures``, ``distinct_pictures``, ``undecodable`` (see
        ``Rejected.as_dict``), ``dictionary_words``, ``dictionary_sha256``, ``words_used`` (distinct ones),
        ``top_words`` (``[word, pictures]``, the 20 commonest over the distinct pictures), ``top_words_share`` (their
        share of all words given; near 1 the words say little: CLIP has words that are close to every picture),
        ``top_n``, ``prompt``, ``clip``, ``clip_revision``.

    Raises:
        UserError: D is empty, no item has a picture, or none can be decoded.
    """
    if not words:
        raise UserError("the word dictionary is empty: give one word a line")
    settings = {"dictionary": dictionary_digest(words), "clip": clip.name, "revision": clip.revision}
    dictionary = _encode_words(layout, settings, words, clip)
    word_vectors = torch.from_numpy(np.concatenate(list(dictionary.shards()))).to(clip.device)  # [|D|, k]
    n_words = min(top_n, len(words))
    rows = PictureRows(
        layout,
        "words",
        {**settings, "top_n": top_n},
        lacking=np.full(n_words, _NO_WORD),
        batch_size=batch_size,
        shard_size=shard_size,
    )

    def best(vectors: Tensor) -> NDArray[np.int32]:
        return nearest_words(vectors, word_vectors, n_words).int().cpu().numpy()  # [b, N]

    rows.compute(clip, best, workers=workers, description="describing pictures")

    def join() -> dict[str, Any]:
        figures = _write(layout, rows, words)
        rows.discard()
        dictionary.discard()
        return figures

    return {
        **once(join),
        "dictionary_words": len(words),
        "dictionary_sha256": settings["dictionary"],
        "top_n": top_n,
        "prompt": _PROMPT,
        "clip": clip.name,
        "clip_revision": clip.revision,
    }


def nearest_words(vectors: Tensor, word_vectors: Tensor, top_n: int) -> Tensor:
    """TopN of eq. 2: the words of highest cosine, best first; of equally near ones those that D has first.

    Args:
        vectors: pictures, float ``[b, k]`` of length 1.
        word_vectors: D, float ``[|D|, k]`` of length 1.
        top_n: N; all of D if that is smaller.

    Returns:
        Places in D, int64 ``[b, min(top_n, |D|)]``.
    """
    cosine = vectors @ word_vectors.T  # [b, |D|]
    return cosine.sort(dim=-1, descending=True, stable=True).indices[:, :top_n]  # topk leaves open which of equals


def _encode_words(layout: Layout, settings: Mapping[str, Any], words: Sequence[str], clip: Clip) -> ShardedRows:
    """D in CLIP's space, float32 rows of length 1: encoded once in all, and kept until the pictures are done."""

    def batches(inputs: range) -> Iterator[NDArray[np.float32]]:
        for start in range(inputs.start, inputs.stop, _WORD_BATCH):
            yield clip.encode_words(words[start : min(start + _WORD_BATCH, inputs.stop)]).cpu().numpy()

    rows = ShardedRows(layout.shards("dictionary"), settings, n_rows=len(words), shard_size=_WORDS_A_SHARD)
    rows.compute(batches, unit="word", description="encoding the word dictionary")
    return rows


def _write(layout: Layout, rows: PictureRows, words: Sequence[str]) -> dict[str, Any]:
    """Write ``image_keywords.jsonl`` from the rows; returns the figures that depend on them."""
    undecodable = rows.undecodable()
    counts = np.zeros(len(words), dtype=np.int64)
    for block in rows.blocks():
        counts += np.bincount(block.ravel(), minlength=len(words))
    commonest = np.argsort(-counts, kind="stable")[:_TOP_WORDS]
    n_items = n_without = n_pictures = 0

    def records() -> Iterator[dict[str, Any]]:
        nonlocal n_items, n_without, n_pictures
        for item, pictures in read_pictures(layout):
            found = [rows.of(name) for name in pictures]
            n_items, n_pictures = n_items + 1, n_pictures + len(pictures)
            n_without += all(row is None for row in found)
            yield {"item_id": item, "keywords": [[] if row is None else [words[w] for w in row] for row in found]}

    write_records(layout.keywords, records())
    share = float(counts[commonest].sum() / counts.sum())
    logger.info(
        "%s: %d distinct pictures of %d items, %d of %d words used; the %d commonest are %.0f%% of all",
        *(layout.keywords.name, len(rows.numbers), n_items, np.count_nonzero(counts), len(words)),
        *(len(commonest), 100 * share),
    )
    return {
        "items": n_items,
        "items_without_words": n_without,
        "pictures": n_pictures,
        "distinct_pictures": len(rows.numbers),
        "undecodable": undecodable.as_dict(),
        "words_used": int(np.count_nonzero(counts)),
        "top_words": [[words[word], int(counts[word])] for word in commonest if counts[word]],
        "top_words_share": round(share, 4),
    }
