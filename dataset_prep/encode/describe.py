"""Pictures -> ``image_keywords.jsonl``: eq. 2 up to the sentence, for a whole data set and any number of processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataset_prep.encode.clip import CLIP, Clip
from dataset_prep.encode.dictionary import check_top_n, dictionary_digest
from dataset_prep.encode.item_pictures import read_pictures
from dataset_prep.encode.nearest import nearest_words
from dataset_prep.encode.picture_reader import WORKERS
from dataset_prep.encode.picture_rows import SHARD_SIZE, PictureRows
from dataset_prep.encode.shards import Shards
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import write_records
from recbole_msm4sr.core.distributed import once
from recbole_msm4sr.core.errors import UserError

logger = logging.getLogger(__name__)

TOP_N = 15  # the paper's N
TOP_WORDS = 20  # words whose share of all is reported
_NO_WORD = np.int32(-1)
_WORD_BATCH = 256
_WORDS_A_SHARD = 8 * _WORD_BATCH


def describe_pictures(
    layout: Layout,
    *,
    words: Sequence[str],
    clip: str = CLIP,
    revision: str | None = None,
    top_n: int = TOP_N,
    prompt: str = "{}",
    device: str | None = None,
    batch_size: int = 64,
    workers: int = WORKERS,
    shard_size: int = SHARD_SIZE,
) -> dict[str, Any]:
    """Write ``layout.keywords``: for every picture of ``layout.pictures`` the ``top_n`` words of D nearest to it.

    Items and pictures keep their order; a picture that cannot be decoded has ``[]`` in its place. Every distinct file
    is scored once. Runs under torchrun, and goes on where it was interrupted.

    Args:
        words: D, without repeats, such as ``read_words`` gives.
        clip: a folder, or a name on the model hub.
        revision: commit or tag of a name on the hub.
        top_n: N, from 5 to 50; all of D if it is smaller.
        prompt: what CLIP reads for a word, with ``{}`` in the word's place: ``a photo of {}``. The paper uses the bare
            word. Other words may be nearest then, but it is the words alone that are written.
        batch_size: pictures at a time.
        workers: threads that decode pictures.
        shard_size: pictures between two points where an interrupted run can go on.

    Returns:
        Figures: ``items``, ``items_without_words``, ``pictures``, ``distinct_pictures``, ``undecodable`` (see
        ``Rejected.as_dict``), ``dictionary_words``, ``dictionary_sha256``, ``words_used`` (distinct ones),
        ``top_words`` (``[word, pictures]``, the 20 commonest over the distinct pictures), ``top_words_share`` (their
        share of all words given; CLIP has words that are near to everything, and where this is close to 1 the
        pictures' words say little), ``top_n``, ``prompt``, ``clip``, ``clip_revision``.

    Raises:
        UserError: ``top_n`` or ``prompt`` is out of range, D is empty, the model cannot be loaded, no item has a
            picture, or none can be decoded.
    """
    check_top_n(top_n)
    if "{}" not in prompt:
        raise UserError(f"the prompt {prompt!r} has no {{}} in the place of the word")
    if not words:
        raise UserError("the word dictionary is empty: give one word a line")
    model = Clip(clip, device, revision=revision)
    settings = {
        "dictionary": dictionary_digest(words),
        "prompt": prompt,
        "clip": model.name,
        "revision": model.revision,
    }
    n_words = min(top_n, len(words))
    rows = PictureRows(
        layout,
        "words",
        {**settings, "top_n": top_n},
        width=n_words,
        missing=_NO_WORD,
        batch_size=batch_size,
        shard_size=shard_size,
    )
    dictionary = _Dictionary(layout, settings, [prompt.replace("{}", word) for word in words], model)
    word_vectors = dictionary.vectors()  # [|D|, k]

    def best(vectors: Tensor) -> NDArray[np.int32]:
        return nearest_words(vectors, word_vectors, n_words).int().cpu().numpy()  # [b, N]

    rows.compute(model, best, workers=workers, description="describing pictures")

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
        "prompt": prompt,
        "clip": model.name,
        "clip_revision": model.revision,
    }


class _Dictionary:
    """D in CLIP's space: encoded once in all, by whichever rank, and kept until the pictures are done."""

    def __init__(self, layout: Layout, settings: dict[str, Any], prompts: Sequence[str], clip: Clip) -> None:
        self._prompts, self._clip = prompts, clip
        self._shards = Shards(
            layout.shards("dictionary"), settings, n_items=len(prompts), shard_size=_WORDS_A_SHARD, suffix=".npy"
        )

    def vectors(self) -> Tensor:
        """Float32 ``[|D|, k]`` of length 1, on CLIP's device."""
        self._shards.run(self._encode, unit="word", description="encoding the word dictionary")
        return torch.from_numpy(np.concatenate([np.load(path) for _, path in self._shards])).to(self._clip.device)

    def discard(self) -> None:
        self._shards.discard()

    def _encode(self, numbers: range, path: Path) -> None:
        blocks = [
            self._clip.encode_words([self._prompts[number] for number in numbers[start : start + _WORD_BATCH]])
            for start in range(0, len(numbers), _WORD_BATCH)
        ]
        with open(path, "wb") as file:
            np.save(file, torch.cat(blocks).cpu().numpy())


def _write(layout: Layout, rows: PictureRows, words: Sequence[str]) -> dict[str, Any]:
    """Write ``image_keywords.jsonl`` from the rows; returns the figures that depend on them."""
    undecodable = rows.undecodable()
    counts = np.zeros(len(words), dtype=np.int64)
    for block in rows.blocks():
        counts += np.bincount(block.ravel(), minlength=len(words))
    commonest = np.argsort(-counts, kind="stable")[:TOP_WORDS]
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
    if undecodable.total:
        logger.warning(undecodable.describe(len(rows.numbers), "pictures"))
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
