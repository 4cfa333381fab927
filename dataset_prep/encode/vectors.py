"""The vectors of distinct sentences: encoded in shards by all ranks, then read by sentence number."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_prep.encode.distinct import DistinctSentences
from dataset_prep.encode.sentence_encoder import SentenceEncoder
from dataset_prep.encode.shards import Shards
from recbole_msm4sr.core.errors import UserError

#: Sentences a shard: seconds of work, and enough to sort by length.
SHARD_SIZE = 2048
_MAPPED = 256  # shards that are open at a time; sentences are numbered as they occur, so an item's are neighbours
_SHOWN = 80  # characters of a sentence in a message


class SentenceVectors:
    """Vectors in the type of a feature store, float16 ``[n, dim]``, as files of ``shard_size`` rows.

    Args:
        folder: of the shards.
        settings: what the vectors depend on, besides the encoder; ``batch_size`` and ``precision`` are those of
            ``SentenceEncoder.encode``.
        shard_size: sentences a shard.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        sentences: DistinctSentences,
        encoder: SentenceEncoder,
        shard_size: int,
    ) -> None:
        self._sentences, self._encoder = sentences, encoder
        self._batch_size, self._precision = settings["batch_size"], settings["precision"]
        identity = {"encoder": encoder.name, "revision": encoder.revision}
        self._shards = Shards(
            folder, {**settings, **identity}, n_items=len(sentences), shard_size=shard_size, suffix=".npy"
        )
        self._mapped = functools.lru_cache(_MAPPED)(self._map)

    def compute(self) -> None:
        """Encode what is not there yet, on all ranks.

        Raises:
            UserError: the encoder gives a value that float16 cannot hold; the message names the sentence.
        """
        self._shards.run(self._encode, unit="sentence", description="encoding sentences")

    def of(self, numbers: NDArray[np.int64]) -> NDArray[np.float16]:
        """The vectors of some sentences, float16 ``[len(numbers), dim]``."""
        if not len(numbers):
            return np.empty((0, self._dim), dtype=np.float16)
        size = self._shards.shard_size
        return np.stack([self._mapped(number // size)[number % size] for number in numbers.tolist()])

    @functools.cached_property
    def _dim(self) -> int:
        return int(self._mapped(0).shape[1])

    def _encode(self, numbers: range, path: Path) -> None:
        sentences = self._sentences.read(numbers)
        vectors = self._encoder.encode(sentences, self._batch_size, self._precision)  # [n, dim]
        with np.errstate(over="ignore"):
            half = vectors.astype(np.float16)
        bad = np.flatnonzero(~np.isfinite(half).all(axis=1))
        if len(bad):
            shown = sentences[bad[0]][:_SHOWN]
            kind = (
                "a value beyond float16's ±65504" if np.isfinite(vectors[bad[0]]).all() else "a NaN or infinite value"
            )
            raise UserError(
                f"{self._encoder.name} gives {kind} for {len(bad)} of {len(sentences)} sentences, {shown!r} for one: "
                "its weights may be damaged; try another encoder"
            )
        with open(path, "wb") as file:
            np.save(file, half)

    def _map(self, shard: int) -> NDArray[np.float16]:
        return np.asarray(np.load(self._shards.path(shard), mmap_mode="r"))
