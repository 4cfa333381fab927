"""Sentence-BERT, loaded by name or from a folder, with what a manifest needs to say about it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_prep.hub import is_local_model, loading_error
from recbole_msm4sr.files import sha256_of_file

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


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

    def encode(self, sentences: Sequence[str], batch_size: int) -> NDArray[np.float32]:
        """Vectors of ``sentences``, float32 ``[len(sentences), dim]``, in the same order."""
        return np.asarray(
            self.model.encode(list(sentences), batch_size=batch_size, show_progress_bar=False), dtype=np.float32
        )


def load_sentence_encoder(
    name_or_path: str, device: str | None = None, *, revision: str | None = None, label: str | None = None
) -> SentenceEncoder:
    """Load a ``SentenceTransformer``. A folder is read without any access to the network.

    Args:
        name_or_path: a folder, or a name on the model hub such as ``sentence-transformers/all-MiniLM-L6-v2``.
        device: ``cpu``, ``cuda``, ...; the library chooses if it is left out.
        revision: commit or tag of a name on the hub.
        label: recorded as the encoder's name instead of ``name_or_path``.

    Raises:
        UserError: the folder holds no such model, the name cannot be fetched, or it can be neither.
    """
    local = is_local_model(name_or_path)
    from sentence_transformers import SentenceTransformer  # takes seconds: only what encodes should pay for it

    try:
        model = SentenceTransformer(name_or_path, device=device, revision=revision, local_files_only=local)
    except (OSError, ValueError) as error:
        raise loading_error("sentence encoder", name_or_path, error) from error
    model.eval()
    if local:
        folder = Path(name_or_path)
        return SentenceEncoder(model, label or folder.resolve().name, _digest_of_weights(folder))
    commit = getattr(model[0].auto_model.config, "_commit_hash", None)
    return SentenceEncoder(model, label or name_or_path, commit or revision)


def _digest_of_weights(folder: Path) -> str:
    """One digest over all weight files of a model folder: two encoders of one name are told apart by it."""
    digest = hashlib.sha256()
    for pattern in ("*.safetensors", "*.bin"):
        for path in sorted(folder.rglob(pattern)):
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of_file(path)}\n".encode())
    return f"sha256:{digest.hexdigest()[:16]}"
