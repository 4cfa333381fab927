"""Sentence-BERT, loaded by name or from a folder, with what a manifest needs to say about it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recbole_msm4sr.errors import UserError
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
        UserError: the folder holds no such model, or the name cannot be fetched.
    """
    from sentence_transformers import SentenceTransformer  # takes seconds: only what encodes should pay for it

    folder = Path(name_or_path)
    local = folder.is_dir()
    try:
        model = SentenceTransformer(name_or_path, device=device, revision=revision, local_files_only=local)
    except (OSError, ValueError) as error:
        kind = "folder" if local else "name (and there is no such folder)"
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"no sentence encoder can be loaded from the {kind} {name_or_path}: {reason}") from error
    model.eval()
    if local:
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
