"""Pictures -> ``features/image`` without words: CLIP's own vectors of them, or ResNet's (table III)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dataset_prep.encode.picture_encoder import PictureEncoder
from dataset_prep.encode.picture_rows import SHARD_SIZE, PictureRows, read_pictures
from dataset_prep.encode.stores import figures_of, write_store
from dataset_prep.layout import Layout
from recbole_msm4sr.core.distributed import once

_NO_VECTOR = np.float16(np.nan)  # no row of a store holds it


def encode_pictures(
    layout: Layout, encoder: PictureEncoder, *, batch_size: int, workers: int, shard_size: int = SHARD_SIZE
) -> dict[str, Any]:
    """Write the store ``features/image``, or replace it: one row a picture of ``layout.pictures``, in its order.

    A picture that cannot be decoded has no row, and an item without pictures has none. Every distinct file is encoded
    once. Runs under torchrun, and goes on where it was interrupted. Rows need not be as long as those of the text.

    Args:
        encoder: CLIP gives the vector that eq. 2 compares with words, of length 1; ResNet pooled features.
        batch_size: pictures at a time.
        workers: threads that decode pictures.
        shard_size: pictures between two points where an interrupted run can go on.

    Returns:
        Figures: ``items``, ``items_without_rows``, ``rows``, ``dim``, ``distinct_pictures``, ``undecodable`` (see
        ``Rejected.as_dict``), ``kind``, ``encoder``, ``revision``.

    Raises:
        UserError: no item has a picture, or none can be decoded.
    """
    kind = encoder.model_type
    settings = {"kind": kind, "encoder": encoder.name, "revision": encoder.revision}
    rows = PictureRows(
        layout,
        "picture-features",
        settings,
        lacking=np.full(encoder.dim, _NO_VECTOR),
        batch_size=batch_size,
        shard_size=shard_size,
    )
    rows.compute(encoder, _as_stored, workers=workers, description=f"{kind} features")

    def join() -> dict[str, Any]:
        undecodable = rows.undecodable()
        options = {"kind": f"image {kind}", "n_distinct_pictures": len(rows.numbers)}
        items = [item for item, _ in read_pictures(layout)]
        of_items = (rows.of_item(pictures) for _, pictures in read_pictures(layout))
        store = write_store(layout.features("image"), items, of_items, encoder, options, overwrite=True)
        rows.discard()
        return {
            **figures_of(store),
            "distinct_pictures": len(rows.numbers),
            "undecodable": undecodable.as_dict(),
        }

    return {**once(join), **settings}


def _as_stored(vectors: Tensor) -> NDArray[np.float16]:
    """What the store holds anyway, at half the size."""
    return vectors.cpu().numpy().astype(np.float16)
