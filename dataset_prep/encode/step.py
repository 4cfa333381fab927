"""The step ``features`` for one modality: ``text.jsonl`` or ``image_keywords.jsonl`` of a data set -> its store."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from dataset_prep.encode.encode import encode_dataset
from dataset_prep.encode.sentence_encoder import load_sentence_encoder
from dataset_prep.layout import Layout
from dataset_prep.quiet import quiet_transformers
from dataset_prep.text.sentences import MAX_SENTENCES


def encode_features(
    layout: Layout,
    *,
    sentence_encoder: str,
    revision: str | None = None,
    device: str | None = None,
    modality: str,
    beside: Collection[str] = (),
    max_sentences: int = MAX_SENTENCES,
    batch_size: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run ``encode_dataset`` on the layout's own file of a modality; it replaces a store that is there.

    Args:
        sentence_encoder: a folder, or a name on the model hub.
        revision: commit or tag of a name on the hub.
        device: see ``core.distributed.own_device``.
        modality: ``text`` reads ``layout.sentences``, ``image`` reads ``layout.keywords``.
        options: of the modality, for its manifest.
        beside, max_sentences, batch_size: see ``encode_dataset``.

    Returns:
        Figures: ``encoder``, ``revision``, ``encoding_seconds`` (loading the model aside), ``items``,
        ``items_without_rows``, ``rows``, ``dim`` and the manifest's ``options``.

    Raises:
        UserError: as ``load_sentence_encoder`` and ``encode_dataset``.
    """
    with quiet_transformers():
        encoder = load_sentence_encoder(sentence_encoder, device, revision=revision)
        start = time.monotonic()
        store = encode_dataset(
            layout.root,
            encoder,
            text=layout.sentences if modality == "text" else None,
            keywords=layout.keywords if modality == "image" else None,
            max_sentences=max_sentences,
            batch_size=batch_size,
            options={modality: options or {}},
            overwrite=True,
            beside=beside,
        )[modality]
        seconds = round(time.monotonic() - start, 3)
    return {
        "encoder": encoder.name,
        "revision": encoder.revision,
        "encoding_seconds": seconds,
        "items": store.n_items,
        "items_without_rows": int((store.offsets[1:] == store.offsets[:-1]).sum()),
        "rows": store.n_rows,
        "dim": store.dim,
        "options": store.manifest["options"],
    }
