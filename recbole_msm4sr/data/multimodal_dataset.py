"""Data sets with precomputed item features, for general and for sequential models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset
from torch import Tensor

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.dataset import VectorisedSequentialDataset
from recbole_msm4sr.data.feature_store import FeatureStore
from recbole_msm4sr.data.mapped_rows import MappedRows, read_rows


class MultimodalDataset(Dataset):
    """RecBole's Dataset of single interactions, with item features; for general models.

    Attributes:
        item_features: modality to ``(values [R, d] float16, offsets [n_items + 1] int64)``, in the order of the
            items' internal ids; item 0 is padding and owns no row. With ``feature_storage: disk`` the values are
            ``MappedRows`` instead of a tensor.
        feature_fingerprints: modality to its store's content hash.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.item_features: dict[str, tuple[Tensor | MappedRows, Tensor]] = {}
        self.feature_fingerprints: dict[str, str] = {}
        modalities = {*config["modalities"], *(config["pretrain_modalities"] or [])}
        for modality in sorted(modalities, reverse=True):
            self._load_features(modality)

    def _load_features(self, modality: str) -> None:
        folder = Path(self.config["feature_path"]) / modality
        if not folder.is_dir():
            raise UserError(
                f"there is no feature store {folder}: import one (msm4sr features import ... --out {folder}), "
                f"or leave {modality} out of modalities"
            )
        store = FeatureStore.open(folder)
        store.check_checksums()  # what is trained on is what the fingerprint says
        expected = self.config["feature_size"]
        if expected is not None and store.dim != expected:
            raise UserError(
                f"feature store {folder} has vectors of {store.dim} numbers, not feature_size ({expected}): "
                f"encode the items again, or set feature_size to {store.dim}"
            )
        tokens = self.field2id_token[self.iid_field][1:].tolist()  # 0 is padding
        offsets, rows = store.select(tokens, allow_missing=self.config["allow_missing_features"])
        on_disk = self.config["feature_storage"] == "disk"
        self.item_features[modality] = (
            MappedRows(store.values, rows) if on_disk else torch.from_numpy(read_rows(store.path, store.values, rows)),
            torch.from_numpy(np.concatenate([[0], offsets])),
        )
        self.feature_fingerprints[modality] = store.fingerprint


class MultimodalSequentialDataset(MultimodalDataset, VectorisedSequentialDataset):
    """Users' histories with item features, for sequential models; attributes as in ``MultimodalDataset``."""
