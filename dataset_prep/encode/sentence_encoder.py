"""Sentence-BERT: loaded by name or from a folder, and run at close to the rate of its bare forward pass.

The library's own ``encode`` cuts batches by their number of sentences. Here sentences are turned into tokens once,
sorted by their true number of tokens, and cut into batches of about equal cost: few long sentences or many short ones.
So little of a batch is padding.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataset_prep.encode.models import digest_of_weights, is_local_model, loading_error
from recbole_msm4sr.core.distributed import own_device
from recbole_msm4sr.core.precision import default_precision

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

# Tokens that a sentence is taken to have where batches are stated in sentences; product texts have 20 on average.
TOKENS_A_SENTENCE = 32
# Sentences a batch. More than 64 are slower on a CPU, where they leave the cache; what a GPU needs was not measured.
CPU_BATCH, GPU_BATCH = 64, 1024
LOWEST_COSINE = 0.9999
TOKENISED_AT_ONCE = 4096  # sentences: with 512 tokens each, 48 MiB

#: What ``precision`` can be: the type that matrix products are computed in.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
    def batch_size(self) -> int:
        """Sentences of 32 tokens a batch, of longer ones fewer, of shorter ones more; for the model's device."""
        return CPU_BATCH if self.model.device.type == "cpu" else GPU_BATCH

    def encode(self, sentences: Sequence[str], precision: str = "float32") -> NDArray[np.float32]:
        """Vectors of ``sentences``, float32 ``[len(sentences), dim]``, in the same order.

        Args:
            precision: of the matrix products, one of :data:`DTYPES`; sums, norms and softmax stay in float32.
        """
        return forward(self.model, sentences, self.batch_size * TOKENS_A_SENTENCE, precision)

    def fast_precision(self, sample: Sequence[str]) -> str:
        """The arithmetic that the device is fastest in, if the vectors stay what they are; ``float32`` otherwise.

        They do if the cosine to the float32 vector is .9999 or more for all of ``sample``; the stores hold float16.
        """
        precision = native_precision(torch.device(self.model.device))
        if precision == "float32":
            return precision
        exact, fast = (self.encode(sample, each).astype(np.float64) for each in ("float32", precision))
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
    except Exception as error:  # whatever the library raises: there is a kind for each damaged file
        raise loading_error("sentence encoder", name_or_path, error) from error
    model.eval()
    if local:
        folder = Path(name_or_path)
        return SentenceEncoder(model, folder.resolve().name, digest_of_weights(folder))
    commit = getattr(model[0].auto_model.config, "_commit_hash", None)
    return SentenceEncoder(model, name_or_path, commit or revision)


def native_precision(device: torch.device) -> str:
    """The fastest of :data:`DTYPES` that the device multiplies natively.

    float16 on any GPU: it has three bits more than bfloat16 at the same speed.
    """
    if device.type == "cuda":
        return "float16"
    return "bfloat16" if default_precision(device) == "bf16" else "float32"


def forward(
    model: SentenceTransformer,
    sentences: Sequence[str],
    batch_tokens: int,
    precision: str = "float32",
    *,
    at_once: int = TOKENISED_AT_ONCE,
) -> NDArray[np.float32]:
    """Vectors as ``model.encode(sentences)`` gives them, rounding aside: float32 ``[len(sentences), dim]``, in order.

    Args:
        batch_tokens: most tokens of a batch, padding included; a longer sentence is a batch of its own.
        precision: see :meth:`SentenceEncoder.encode`.
        at_once: sentences that are turned into tokens and sorted together.
    """
    blocks = [
        _encode(model, list(sentences[start : start + at_once]), batch_tokens, DTYPES[precision])
        for start in range(0, len(sentences), at_once)
    ]
    return np.concatenate(blocks)


def batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Sentences, longest first, cut into batches of at most ``batch_tokens`` when padded to the batch's longest.

    Args:
        lengths: tokens of every sentence, ``[n]``.

    Yields:
        Places of sentences, ``[b]``; every sentence is in one batch.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


@torch.inference_mode()
def _encode(
    model: SentenceTransformer, sentences: list[str], batch_tokens: int, dtype: torch.dtype
) -> NDArray[np.float32]:
    prompt = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
    with torch.autocast(model.device.type, dtype=dtype, enabled=dtype != torch.float32):
        tokens = model.preprocess(sentences, prompt=prompt)
        mask = tokens.get("attention_mask")
        if not isinstance(mask, Tensor) or mask.shape != tokens["input_ids"].shape:  # no transformer, or it packs
            return np.asarray(model.encode(sentences, show_progress_bar=False), dtype=np.float32)
        order = list(batches(mask.sum(dim=1).numpy(), batch_tokens))
        vectors = [
            model(_batch(tokens, mask, torch.from_numpy(places), model.device))["sentence_embedding"].float()
            for places in order
        ]
        found = torch.cat(vectors).cpu().numpy()  # one copy from the device, not one a batch
    result = np.empty_like(found)
    result[np.concatenate(order)] = found
    return result


def _batch(tokens: dict[str, Any], mask: Tensor, places: Tensor, device: torch.device) -> dict[str, Any]:
    """Some sentences' tokens on the device, without the columns that are padding in all of them."""
    columns = mask[places].any(dim=0).nonzero().squeeze(1)
    first, last = int(columns[0]), int(columns[-1]) + 1  # padding is at one end, left or right
    return {
        name: value[places, first:last].to(device, non_blocking=True)
        if isinstance(value, Tensor) and value.shape == mask.shape
        else value
        for name, value in tokens.items()
    }
