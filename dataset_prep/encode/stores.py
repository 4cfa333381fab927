"""Write a feature store, and say what is in it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from recbole_msm4sr.data.feature_store import FeatureStore

logger = logging.getLogger(__name__)


class Encoder(Protocol):
    """What a manifest says of an encoder."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str | None: ...


def write_store(
    path: Path,
    items: Sequence[str],
    rows: Iterable[NDArray[Any]],
    encoder: Encoder,
    options: Mapping[str, Any],
    *,
    overwrite: bool,
) -> FeatureStore:
    """``FeatureStore.write`` of what an encoder made of each item, and a line in the log."""
    store = FeatureStore.write(
        path, items, rows, encoder=encoder.name, revision=encoder.revision, options=options, overwrite=overwrite
    )
    found = figures_of(store)
    logger.info(
        "features/%s: %d rows for %d items (%d without), dim %d, encoder %s, %s",
        *(path.name, found["rows"], found["items"], found["items_without_rows"], found["dim"], encoder.name),
        ", ".join(f"{name} {value}" for name, value in options.items() if name.startswith(("n_", "precision"))),
    )
    return store


def figures_of(store: FeatureStore) -> dict[str, int]:
    """``items``, ``items_without_rows``, ``rows`` and ``dim``."""
    n_without = int((store.offsets[1:] == store.offsets[:-1]).sum())
    return {"items": store.n_items, "items_without_rows": n_without, "rows": store.n_rows, "dim": store.dim}
