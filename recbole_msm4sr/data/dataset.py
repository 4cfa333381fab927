"""RecBole's SequentialDataset, vectorised."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data import sequences
from recbole_msm4sr.data.filtering import note


class SequenceInteraction(Interaction):
    """The rows of RecBole's data augmentation, with the list fields made when they are asked for.

    RecBole stores every prefix padded to MAX_ITEM_LIST_LENGTH, for every field. Here a row is one number, the flat
    position of its next item. Indexing by rows gives a plain ``Interaction`` with the very tensors that RecBole would
    hold.

    Args:
        flat: the sorted interactions, one value a field and interaction.
        row_fields: fields of the next item (and user) that a row shows.
        list_fields: list field to the field whose earlier values it holds.
        length_field: name of the field with the number of inputs.
        width: MAX_ITEM_LIST_LENGTH.
        user: owner of every interaction; int64 ``[T]``.
        first: flat position of every user's first interaction; int64 ``[n_users]``.
        next_position: flat position of every row's next item; int64 ``[N]``.
    """

    _next_position: Tensor
    _sort_by: tuple[str, ...]

    def __init__(
        self,
        flat: Interaction,
        row_fields: list[str],
        list_fields: dict[str, str],
        length_field: str,
        width: int,
        user: Tensor,
        first: Tensor,
        next_position: Tensor,
    ) -> None:
        self.flat, self.row_fields, self.list_fields = flat, list(row_fields), dict(list_fields)
        self.length_field, self.width = length_field, width
        self.user, self.first = user, first
        self._next_position, self._sort_by = next_position, ()

    @property
    def next_position(self) -> Tensor:
        """Flat position of every row's next item; int64 ``[N]``."""
        for field in self._sort_by:
            key = _gather(self.flat[field], self._next_position)
            key = key if key.dim() == 1 else key[:, 0]  # a numerical feature is (value, weight)
            self._next_position = _gather(self._next_position, torch.from_numpy(sequences.stable_argsort(key.numpy())))
        self._sort_by = ()
        return self._next_position

    @property
    def start(self) -> Tensor:
        """Flat position of every row's first input; int64 ``[N]``."""
        pairs = self.user.numpy(), self.first.numpy(), self.next_position.numpy()
        return torch.from_numpy(sequences.first_inputs(*pairs, self.width))

    @property
    def length(self) -> int:
        return len(self._next_position)

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
            index = torch.from_numpy(index if index.dtype == bool else index.astype(np.int64, copy=False))
        return self.of(self.next_position[index] if isinstance(index, slice) else _gather(self.next_position, index))

    def of(self, next_position: Tensor) -> SequenceInteraction:
        """Rows of other next items of the same interactions."""
        rows = copy.copy(self)
        rows.row_fields, rows.list_fields = list(self.row_fields), dict(self.list_fields)
        rows._next_position, rows._sort_by = next_position, ()
        return rows

    def first_pairs(self) -> Tensor:
        """Next positions of the rows that are their user's first pair, int64 ``[users]``; sorts these alone."""
        positions = self._next_position.numpy()
        is_first = self.first.numpy()[self.user.numpy()[positions]] == positions - 1
        rows = self.of(torch.from_numpy(positions[is_first]))
        rows._sort_by = self._sort_by
        return rows.next_position

    def sort(self, by: Any, ascending: Any = True) -> None:
        """Sort rows stably by columns of the next item; done when the order of all rows is asked for."""
        if ascending is not True:
            raise ValueError("sequences are sorted in ascending order only")
        for field in reversed([by] if isinstance(by, str) else list(by)):
            if field not in self.row_fields:
                raise ValueError(f"sequences are sorted by {', '.join(self.row_fields)}, not by {field}")
            self._sort_by += (field,)

    def _reindex(self, index: Tensor) -> None:
        self._next_position = _gather(self.next_position, index)

    def _column(self, name: str) -> Tensor:
        if name in self.row_fields:
            return _gather(self.flat[name], self.next_position)
        if name == self.length_field:
            return self.next_position - self.start
        return self._lists(self.flat[self.list_fields[name]])

    def _lists(self, values: Tensor) -> Tensor:
        column = torch.arange(self.width)
        start = self.start.unsqueeze(1)
        inside = column < self.next_position.unsqueeze(1) - start  # [N, L]
        rows = _gather(values, (start + column).clamp_(max=len(values) - 1))  # [N, L, ...]
        return rows.masked_fill_(~inside.view(*inside.shape, *[1] * (rows.dim() - 2)), 0)


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` of CPU tensors, several times as fast."""
    return torch.from_numpy(values.numpy()[index.numpy()])


def all_interactions(dataset: Any) -> Interaction:
    """Every interaction of a data set, one a row; of sequences those they are made of."""
    rows = dataset.inter_feat
    return rows.flat if isinstance(rows, SequenceInteraction) else rows


def note_swapped(dataset: Any, user: NDArray[np.int64], time: NDArray[np.float64], order: NDArray[np.int64]) -> bool:
    """Log how many neighbours in users' histories RecBole's float32 times would swap; returns whether there are any.

    ``order``: by user, then time.
    """
    n_swapped = sequences.count_swapped(user, time, order)
    if n_swapped:
        note(
            dataset,
            f"times are sorted as float64; RecBole's float32 would swap {n_swapped:,} pairs of neighbours in users' "
            "histories (time_precision: float32)",
        )
    return n_swapped > 0


class VectorisedSequentialDataset(SequentialDataset):
    """RecBole's SequentialDataset without its loops over interactions: the same rows, the same split, row by row.

    Interactions are sorted by time, then by user, each time stably: equal times stay in the order of the file.
    """

    inter_feat: Any
    #: When every interaction was, as it was read; float64 ``[T]``. Without it RecBole's float32 times count.
    times: NDArray[np.float64] | None = None
    #: Of every interaction, which of ``benchmark_filename`` it is from; int64 ``[T]``.
    file_of_row: NDArray[np.int64] | None = None

    def _benchmark_presets(self) -> None:
        """Nothing: split files hold single interactions, too, and become sequences as one file does."""

    def data_augmentation(self) -> None:
        """Turn the interactions into (prefix, next item) rows; see ``SequenceInteraction``."""
        self._aug_presets()
        self._check_field("uid_field", "time_field")
        flat, user = self.inter_feat, self.inter_feat[self.uid_field].numpy()
        time = flat[self.time_field].numpy() if self.times is None else self.times
        time = time if time.ndim == 1 else time[..., 0]  # a numerical feature is (value, weight)
        order = sequences.chronological(user, time)
        if self.times is not None:
            note_swapped(self, user, time, order)
            self.times = None
        for field in flat:
            flat[field] = _gather(flat[field], torch.from_numpy(order))
        if self.file_of_row is not None:
            self.file_of_row = self.file_of_row[order]
        next_position, first = sequences.prefixes(flat[self.uid_field].numpy())
        self.inter_feat = SequenceInteraction(
            flat,
            flat.columns,
            {getattr(self, f"{f}_list_field"): f for f in flat if f != self.uid_field},
            self.item_list_length_field,
            self.max_item_list_len,
            flat[self.uid_field],
            torch.from_numpy(first),
            torch.from_numpy(next_position),
        )

    def build(self) -> list[VectorisedSequentialDataset]:
        """Split by ``eval_args``, or by the files of ``benchmark_filename``.

        Raises:
            UserError: the files do not follow each other in time.
        """
        if self.file_of_row is None:
            return super().build()
        self._change_feat_format()
        self.data_augmentation()
        file, rows = self.file_of_row, self.inter_feat
        position = rows.next_position.numpy()
        (wrong,) = np.nonzero(file[position] < file[position - 1])
        if len(wrong):
            late, early = (self.benchmark_filename_list[file[position[wrong[0]] - k]] for k in (0, 1))
            user = self.id2token(self.uid_field, int(rows.user[position[wrong[0]]]))
            raise UserError(
                f"user {user!r} has an interaction of the file {late} after one of {early}: a sequential model needs "
                "each user's training interactions before those held out"
            )
        self._drop_unused_col()
        return [self.copy(rows.of(torch.from_numpy(position[file[position] == k]))) for k in range(3)]

    def leave_one_out(self, group_by: str, leave_one_mode: str) -> list[VectorisedSequentialDataset]:
        """RecBole's leave-one-out split, by user, of mode valid_and_test: the settings allow no other."""
        rows = self.inter_feat
        parts = sequences.leave_one_out(rows.user.numpy(), rows.first_pairs().numpy())
        self._drop_unused_col()
        return [self.copy(rows.of(torch.from_numpy(part))) for part in parts]
