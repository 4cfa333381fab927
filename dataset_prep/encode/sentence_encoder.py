"""Sentence-BERT, loaded by name or from a folder, with what a manifest needs to say about it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from dataset_prep.encode.forward import forward, native_precision
from dataset_prep.encode.models import digest_of_weights, is_local_model, loading_error
from recbole_msm4sr.core.distributed import own_device

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

# Tokens that a sentence is taken to have where batches are stated in sentences; product texts have 20 on average.
TOKENS_A_SENTENCE = 32
# Sentences a batch. More than 64 are slower on a CPU, where they leave the cache; what a GPU needs was not measured.
CPU_BATCH, GPU_BATCH = 64, 1024
LOWEST_COSINE = 0.9999


@dataclass(frozen=True)
class SentenceEncoder:
    """BERT(.) of eq. 1 and 2.

    Attributes:
        name: what the manifest calls the encoder: a hub name, or the last part of a folder's path.
        revision: the hub's commit, or for a folder ``sha256:`` and the start of a digest of its weights.
    """

    model: SentenceTransformer
    name: str
    revision: str | None

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.model.get_embedding_dimension() or len(self.encode(["a"])[0]))

    @property
    def default_batch_size(self) -> int:
        """For the device that the model is on."""
        return CPU_BATCH if self.model.device.type == "cpu" else GPU_BATCH

    def encode(
        self, sentences: Sequence[str], batch_size: int | None = None, precision: str = "float32"
    ) -> NDArray[np.float32]:
        """Vectors of ``sentences``, float32 ``[len(sentences), dim]``, in the same order.

        Args:
            batch_size: sentences of 32 tokens a batch; of longer ones there are fewer, of shorter ones more.
            precision: of the matrix products, ``float32``, ``bfloat16`` or ``float16``.
        """
        return forward(self.model, sentences, (batch_size or self.default_batch_size) * TOKENS_A_SENTENCE, precision)

    def fast_precision(self, sample: Sequence[str]) -> str:
        """The arithmetic that the device is fastest in, if the vectors stay what they are; ``float32`` otherwise.

        They do if the cosine to the float32 vector is .9999 or more for all of ``sample``; the stores hold float16.
        """
        precision = native_precision(torch.device(self.model.device))
        if precision == "float32":
            return precision
        exact, fast = (self.encode(sample, precision=each).astype(np.float64) for each in ("float32", precision))
        lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(fast, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = float(np.min(np.sum(exact * fast, axis=1) / lengths))
        close = cosine >= LOWEST_COSINE  # false for NaN
        logger.info(
            "%s: %s; in %s, cosine to float32 is %.5f at least over %d sentences",
            *(self.name, f"encoding in {precision if close else 'float32'}", precision, cosine, len(sample)),
        )
        return precision if close else "float32"


def load_sentence_encoder(
    name_or_path: str, device: str | None = None, *, revision: str | None = None
) -> SentenceEncoder:
    """Load a ``SentenceTransformer``. A folder is read without any access to the network.

    Args:
        name_or_path: a folder, or a name on the model hub such as ``sentence-transformers/all-MiniLM-L6-v2``.
        device: ``cpu``, ``cuda``, ...; left out, a GPU if there is one (see ``core.distributed.own_device``).
        revision: commit or tag of a name on the hub.

    Raises:
        UserError: the folder holds no such model, the name cannot be fetched, or it can be neither.
    """
    local = is_local_model(name_or_path)
    from sentence_transformers import SentenceTransformer  # takes seconds: only what encodes should pay for it

    try:
        model = SentenceTransformer(name_or_path, device=own_device(device), revision=revision, local_files_only=local)
    except (OSError, ValueError) as error:
        raise loading_error("sentence encoder", name_or_path, error) from error
    model.eval()
    if local:
        folder = Path(name_or_path)
        return SentenceEncoder(model, folder.resolve().name, digest_of_weights(folder))
    commit = getattr(model[0].auto_model.config, "_commit_hash", None)
    return SentenceEncoder(model, name_or_path, commit or revision)
