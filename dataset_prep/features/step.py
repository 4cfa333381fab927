"""The step ``features``: ``text.jsonl`` and ``image_keywords.jsonl`` of a data set -> its feature stores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from dataset_prep.features.encode import encode_dataset
from dataset_prep.features.sentence_encoder import load_sentence_encoder
from dataset_prep.layout import Layout
from dataset_prep.quiet import quiet_transformers
from dataset_prep.text.sentences import MAX_SENTENCES


def encode_features(
    layout: Layout,
    *,
    sentence_encoder: str,
    revision: str | None = None,
    device: str | None = None,
    modalities: Sequence[str] = ("text", "image"),
    max_sentences: int = MAX_SENTENCES,
    batch_size: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Run ``encode_dataset`` on the layout's own files; it replaces stores that are there.

    Args:
        sentence_encoder: a folder, or a name on the model hub.
        revision: commit or tag of a name on the hub.
        device: see ``ranks.own_device``.
        modalities: ``text`` reads ``layout.sentences``, ``image`` reads ``layout.keywords``.
        max_sentences, batch_size, options: see ``encode_dataset``.

    Returns:
        Figures: ``encoder``, ``revision``, ``encoding_seconds`` (loading the model aside), and for each modality a
        mapping with ``items``, ``items_without_rows``, ``rows``, ``dim`` and the manifest's ``options``.

    Raises:
        UserError: as ``load_sentence_encoder`` and ``encode_dataset``.
    """
    with quiet_transformers():
        encoder = load_sentence_encoder(sentence_encoder, device, revision=revision)
        start = time.monotonic()
        stores = encode_dataset(
            layout.root,
            encoder,
            text=layout.sentences if "text" in modalities else None,
            keywords=layout.keywords if "image" in modalities else None,
            max_sentences=max_sentences,
            batch_size=batch_size,
            options=options,
            overwrite=True,
        )
        seconds = round(time.monotonic() - start, 3)
    figures: dict[str, Any] = {
        modality: {
            "items": store.n_items,
            "items_without_rows": int((store.offsets[1:] == store.offsets[:-1]).sum()),
            "rows": store.n_rows,
            "dim": store.dim,
            "options": store.manifest["options"],
        }
        for modality, store in stores.items()
    }
    return {"encoder": encoder.name, "revision": encoder.revision, "encoding_seconds": seconds, **figures}
