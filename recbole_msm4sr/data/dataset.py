"""RecBole's SequentialDataset, vectorised, and the same with item features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_msm4sr.data import sequences
from recbole_msm4sr.data.feature_store import FeatureStore
from recbole_msm4sr.errors import UserError


class SequenceInteraction(Interaction):
    """The rows of RecBole's data augmentation, with the list fields made when they are asked for.

    RecBole stores every prefix padded to MAX_ITEM_LIST_LENGTH, for every field. Here a row is two numbers, ``target``
    and ``start``: the flat positions of its next item and of its first input. Indexing by rows gives a plain
    ``Interaction`` with the very tensors that RecBole would hold.

    Args:
        flat: the sorted interactions, one value a field and interaction.
        row_fields: fields of the next item (and user) that a row shows.
        list_fields: list field to the field whose earlier values it holds.
        length_field: name of the field with the number of inputs.
        width: MAX_ITEM_LIST_LENGTH.
        target: flat position of every row's next item; int64 ``[N]``.
        start: flat position of every row's first input; int64 ``[N]``.
    """

    def __init__(
        self,
        flat: Interaction,
        row_fields: list[str],
        list_fields: dict[str, str],
        length_field: str,
        width: int,
        target: Tensor,
        start: Tensor,
    ) -> None:
        self.flat, self.row_fields, self.list_fields = flat, list(row_fields), dict(list_fields)
        self.length_field, self.width = length_field, width
        self.target, self.start = target, start

    @property
    def length(self) -> int:
        return len(self.target)

    @property
    def interaction(self) -> dict[str, Tensor]:
        """All columns, list fields included, as RecBole holds them; costs their full memory."""
        return {name: self[name] for name in self.columns}

    @property
    def columns(self) -> list[str]:
        return [*self.row_fields, self.length_field, *self.list_fields]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return self._column(index)
        rows = self.take(index)
        return Interaction({name: rows._column(name) for name in self.columns})

    def __delitem__(self, name: str) -> None:
        if name in self.row_fields:
            self.row_fields.remove(name)
        else:
            del self.list_fields[name]

    def drop(self, column: str) -> None:
        """Hide a column (RecBole's ``unused_col``)."""
        del self[column]

    def take(self, index: Any) -> SequenceInteraction:
        """The given rows, still compact; ``index`` is a slice, row numbers or a mask."""
        if not isinstance(index, (slice, Tensor)):
            index = np.asarray(index)
            index = torch.from_numpy(index if index.dtype == bool else index.astype(np.int64))
        target, start = self.target[index], self.start[index]
        return SequenceInteraction(
            self.flat, self.row_fields, self.list_fields, self.length_field, self.width, target, start
        )

    def _reindex(self, index: Any) -> None:
        self.target, self.start = self.target[index], self.start[index]

    def _column(self, name: str) -> Tensor:
        if name in self.row_fields:
            return self.flat[name][self.target]
        if name == self.length_field:
            return self.target - self.start
        return self._lists(self.flat[self.list_fields[name]])

    def _lists(self, values: Tensor) -> Tensor:
        column = torch.arange(self.width)
        inside = column < (self.target - self.start).unsqueeze(1)  # [N, L]
        rows = values[(self.start.unsqueeze(1) + column).clamp_(max=len(values) - 1)]  # [N, L, ...]
        return rows.masked_fill_(~inside.view(*inside.shape, *[1] * (rows.dim() - 2)), 0)


class VectorisedSequentialDataset(SequentialDataset):
    """RecBole's SequentialDataset without its loops over interactions: the same rows, the same split, row by row.

    Ties in time keep RecBole's order: interactions are sorted by time, then by user, each time stably, after times
    have become float32; equal times stay in the order of the file.
    """

    inter_feat: Any

    def data_augmentation(self) -> None:
        """Turn the interactions into (prefix, next item) rows; see ``SequenceInteraction``."""
        self._aug_presets()
        self._check_field("uid_field", "time_field")
        self.sort(by=[self.uid_field, self.time_field], ascending=True)
        target, start = sequences.prefixes(self.inter_feat[self.uid_field].numpy(), self.max_item_list_len)
        self.inter_feat = SequenceInteraction(
            self.inter_feat,
            self.inter_feat.columns,
            {getattr(self, f"{f}_list_field"): f for f in self.inter_feat if f != self.uid_field},
            self.item_list_length_field,
            self.max_item_list_len,
            torch.from_numpy(target),
            torch.from_numpy(start),
        )

    def leave_one_out(self, group_by: str, leave_one_mode: str) -> list[VectorisedSequentialDataset]:
        """RecBole's leave-one-out split; ``leave_one_mode`` is valid_and_test, valid_only or test_only."""
        if group_by is None:
            raise ValueError("leave one out strategy require a group field")
        user = self.inter_feat[group_by].numpy()
        empty = np.empty(0, dtype=np.int64)
        if leave_one_mode == "valid_and_test":
            parts = sequences.leave_one_out(user, 2)
        elif leave_one_mode == "valid_only":
            parts = [*sequences.leave_one_out(user, 1), empty]
        elif leave_one_mode == "test_only":
            train, test = sequences.leave_one_out(user, 1)
            parts = [train, empty, test]
        else:
            raise NotImplementedError(f"The leave_one_mode [{leave_one_mode}] has not been implemented.")
        self._drop_unused_col()
        return [self.copy(self.inter_feat.take(part)) for part in parts]

    def sort(self, by: Any, ascending: Any = True) -> None:
        """Sort rows by columns of the next item, stably."""
        if not isinstance(self.inter_feat, SequenceInteraction):
            super().sort(by, ascending)
            return
        fields = [by] if isinstance(by, str) else list(by)
        if ascending is not True:
            raise ValueError("sequences are sorted in ascending order only")
        for field in reversed(fields):
            self.inter_feat._reindex(torch.from_numpy(np.argsort(self.inter_feat[field].numpy(), kind="stable")))


class MultimodalSequentialDataset(VectorisedSequentialDataset):
    """Interactions with precomputed item features.

    Attributes:
        item_features: modality to ``(values [R, d] float16, offsets [n_items + 1] int64)``, in the order of the
            items' internal ids; item 0 is padding and owns no row.
        feature_fingerprints: modality to its store's content hash.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.item_features: dict[str, tuple[Tensor, Tensor]] = {}
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
        expected = self.config["feature_size"]
        if expected is not None and store.dim != expected:
            raise UserError(
                f"feature store {folder} has vectors of {store.dim} numbers, not feature_size ({expected}): "
                f"encode the items again, or set feature_size to {store.dim}"
            )
        tokens = self.field2id_token[self.iid_field][1:].tolist()  # 0 is padding
        offsets, rows = store.select(tokens, allow_missing=self.config["allow_missing_features"])
        values = np.ascontiguousarray(store.values[rows])
        if not np.isfinite(values).all():
            raise UserError(f"feature store {folder} holds NaN or infinity: run msm4sr features check {folder}")
        self.item_features[modality] = (
            torch.from_numpy(values),
            torch.from_numpy(np.concatenate([[0], offsets])),
        )
        self.feature_fingerprints[modality] = store.fingerprint
