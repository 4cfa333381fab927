"""Packed training batches (docs/packed-training.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data import sequences
from recbole_msm4sr.data.dataset import SequenceInteraction, VectorisedSequentialDataset


class PackedDataLoader:
    """Batches of windows in which every next item is a target.

    A batch is an ``Interaction`` of the item list field (int64 ``[U, L]``, left-aligned, 0 where padded), ``target``
    (int64 ``[U, L]``, 0 where there is nothing to predict) and the length field (int64 ``[U]``). L is the longest row
    present. Every pair of the training part occurs once an epoch; the order follows from the seed and the epoch
    alone. With ``share``, a batch is dealt to several processes, and a process sees its part of every batch.

    Args:
        config: reads train_mode, window_stride, train_batch_size, shuffle_buffer, seed; of a first stage also
            pretrain_min_item_count: rarer items are left out of the histories.
        dataset: the training part of the split.
    """

    def __init__(self, config: Any, dataset: VectorisedSequentialDataset) -> None:
        self.config, self.dataset = config, dataset
        self.batch_pairs = config["train_batch_size"]
        self.buffer_batches = config["shuffle_buffer"]
        self.seed = config["seed"]
        self.epoch = 0
        self.rank, self.n_ranks = 0, 1
        self._planned: tuple[int, list[np.ndarray]] | None = None
        rows = dataset.inter_feat
        if not isinstance(rows, SequenceInteraction):
            raise UserError("packed training needs the leave-one-out split: eval_args: {split: {LS: valid_and_test}}")
        self.items = rows.flat[dataset.iid_field].numpy()
        self.fields = (
            getattr(dataset, f"{dataset.iid_field}_list_field"),
            "target",
            dataset.item_list_length_field,
        )
        next_position, start = rows.next_position.numpy(), rows.start.numpy()
        min_count = config["pretrain_min_item_count"] if config.spec.is_first_stage else None
        if config["train_mode"] == "prefix":
            if min_count:
                raise UserError("pretrain_min_item_count needs train_mode: packed")
            self.windows = sequences.prefix_windows(next_position, start)
        else:
            first, n_pairs = self._histories(rows.flat[dataset.uid_field].numpy(), next_position)
            if min_count:
                self.items, first, n_pairs = sequences.without_rare_items(self.items, first, n_pairs, min_count)
                if not len(first):
                    raise UserError(
                        f"no history has two items of {min_count} training interactions: lower pretrain_min_item_count"
                    )
            self.windows = sequences.cut_windows(first, n_pairs, rows.width, config["window_stride"])
        self.n_pairs = int(self.windows.n_targets.sum())

    @staticmethod
    def _histories(user: np.ndarray, next_position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First flat position and number of pairs of every user's training part."""
        position = np.sort(next_position)
        begins = np.flatnonzero(np.diff(user[position], prepend=-1))
        n_pairs = np.diff(begins, append=len(position))
        first = position[begins] - 1
        starts_history = (first == 0) | (user[first - 1] != user[first])
        if not (starts_history & (position[begins + n_pairs - 1] - first == n_pairs)).all():
            raise UserError("packed training needs a split that trains on the beginning of every history")
        return first, n_pairs

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows."""
        self.epoch = epoch

    def share(self, rank: int, n_ranks: int) -> None:
        """Become one of ``n_ranks`` processes' loaders: batches hold ``n_ranks * train_batch_size`` pairs together.

        Windows, sorted by length, are dealt in turn, so that all get about as many pairs and as much padding. Where
        a batch has fewer windows than there are processes, the rest get a window without targets.
        """
        self.rank, self.n_ranks = rank, n_ranks
        self._planned = None

    def __len__(self) -> int:
        return len(self._plan())

    def __iter__(self) -> Iterator[Interaction]:
        for rows in self._plan():
            own = rows[self.rank :: self.n_ranks]
            yield self._batch(own) if len(own) else self._without_targets(rows[:1])

    def _plan(self) -> list[np.ndarray]:
        """Windows of every batch of the epoch, shortest first."""
        if self._planned is None or self._planned[0] != self.epoch:
            plan = sequences.plan_epoch(
                self.windows.length,
                self.windows.n_targets,
                self.batch_pairs * self.n_ranks,
                buffer_batches=self.buffer_batches,
                rng=np.random.default_rng([self.seed, self.epoch]),
            )
            self._planned = self.epoch, plan
        return self._planned[1]

    def _without_targets(self, rows: np.ndarray) -> Interaction:
        batch = self._batch(rows)
        batch["target"].zero_()
        return batch

    def _batch(self, rows: np.ndarray) -> Interaction:
        start, length, skip = self.windows.start[rows], self.windows.length[rows], self.windows.skip[rows]
        width = int(length.max())
        item_seq = sequences.gather(self.items, start, length, width)
        target = sequences.gather(self.items, start + 1, length, width)
        target[np.arange(width) < skip[:, None]] = 0
        item_field, target_field, length_field = self.fields
        return Interaction(
            {
                item_field: torch.from_numpy(item_seq),
                target_field: torch.from_numpy(target),
                length_field: torch.from_numpy(length),
            }
        )
