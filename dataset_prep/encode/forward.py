"""Run a SentenceTransformer over many sentences at close to the rate of its bare forward pass.

Sentences are turned into tokens once, sorted by their true number of tokens, and cut into batches of about equal cost:
few long sentences or many short ones. So little of a batch is padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_SENTENCES = 4096  # turned into tokens at a time: with 512 tokens each, 48 MiB
_SORTED_BY = "attention_mask"

#: What ``precision`` can be: the type that matrix products are computed in.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def native_precision(device: torch.device) -> str:
    """The fastest of :data:`DTYPES` that the device multiplies natively.

    float16 on any GPU: it has three bits more than bfloat16 at the same speed. bfloat16 on an x86 CPU with AVX-512 BF16
    or AMX; elsewhere it is emulated, and slow.
    """
    if device.type == "cuda":
        return "float16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def forward(
    model: SentenceTransformer, sentences: Sequence[str], batch_tokens: int, precision: str = "float32"
) -> NDArray[np.float32]:
    """Vectors as ``model.encode(sentences)`` gives them, rounding aside: float32 ``[len(sentences), dim]``, in order.

    Args:
        batch_tokens: most tokens of a batch, padding included; a longer sentence is a batch of its own.
        precision: of the matrix products; sums, norms and softmax stay in float32.
    """
    blocks = [
        _encode(model, sentences[start : start + _SENTENCES], batch_tokens, DTYPES[precision])
        for start in range(0, len(sentences), _SENTENCES)
    ]
    return np.concatenate(blocks)


@torch.inference_mode()
def _encode(
    model: SentenceTransformer, sentences: Sequence[str], batch_tokens: int, dtype: torch.dtype
) -> NDArray[np.float32]:
    prompt = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
    with torch.autocast(model.device.type, dtype=dtype, enabled=dtype != torch.float32):
        tokens = model.preprocess(list(sentences), prompt=prompt)
        mask = tokens.get(_SORTED_BY)
        if (
            not isinstance(mask, Tensor) or mask.shape != tokens["input_ids"].shape
        ):  # no transformer, or its own packing
            return np.asarray(model.encode(list(sentences), show_progress_bar=False), dtype=np.float32)
        vectors: list[Tensor] = []
        order: list[NDArray[np.int64]] = []
        for rows in batches(mask.sum(dim=1).numpy(), batch_tokens):
            vectors.append(model(_select(tokens, torch.from_numpy(rows), model.device))["sentence_embedding"].float())
            order.append(rows)
        sorted_vectors = torch.cat(vectors).cpu().numpy()  # one copy from the device, not one a batch
    result = np.empty_like(sorted_vectors)
    result[np.concatenate(order)] = sorted_vectors
    return result


def batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Rows, longest first, cut into batches of at most ``batch_tokens`` when padded to the batch's longest.

    Args:
        lengths: tokens of every row, ``[n]``.

    Yields:
        Numbers of rows, ``[b]``; every row is in one batch.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def _select(tokens: dict[str, Any], rows: Tensor, device: torch.device) -> dict[str, Any]:
    """A batch on the device, without the columns that are padding in all its rows."""
    mask = tokens[_SORTED_BY]
    columns = mask[rows].any(dim=0).nonzero().squeeze(1)
    first, last = int(columns[0]), int(columns[-1]) + 1  # padding is at one end, left or right
    return {
        name: value[rows, first:last].to(device, non_blocking=True)
        if isinstance(value, Tensor) and value.shape == mask.shape
        else value
        for name, value in tokens.items()
    }
