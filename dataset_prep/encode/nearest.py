"""TopN of eq. 2: the words of D whose CLIP vectors are nearest to a picture's."""

from __future__ import annotations

from torch import Tensor


def nearest_words(vectors: Tensor, word_vectors: Tensor, top_n: int) -> Tensor:
    """The ``top_n`` words of highest cosine, best first; of equally near ones those that D has first.

    Args:
        vectors: pictures, float ``[b, k]`` of length 1.
        word_vectors: D, float ``[|D|, k]`` of length 1.
        top_n: N; all of D if that is smaller.

    Returns:
        Places in D, int64 ``[b, min(top_n, |D|)]``.
    """
    cosine = vectors @ word_vectors.T  # [b, |D|]
    return cosine.sort(dim=-1, descending=True, stable=True).indices[:, :top_n]  # topk leaves open which of equals
