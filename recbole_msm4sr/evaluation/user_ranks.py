"""Where each user's target was ranked: what significance tests and metrics of groups are made of."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.evaluator import Evaluator

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_file
from recbole_msm4sr.evaluation.unseen_ranks import unseen_ranks

#: Metrics that single users have.
METRICS = ("recall", "ndcg")


@dataclass(frozen=True)
class UserRanks:
    """Test results by user, one row for each that has a target.

    Attributes:
        user: tokens, str ``[N]``.
        item: tokens of the targets, str ``[N]``.
        rank: of the target among all items that RecBole ranks (for sequential models those of the history, too), int32
            ``[N]``, from 1; ``n_best + 1`` stands for any rank below ``n_best``.
        unseen_rank: of the target among the items that its user has not interacted with, int32 ``[N]``; for general
            models the same as ``rank``.
        history_length: interactions of the user before the target, int32 ``[N]``.
        target_count: training interactions of the target, int32 ``[N]``; below 10, table V calls an item cold.
        n_best: the largest rank that is told apart.
    """

    user: NDArray[np.str_]
    item: NDArray[np.str_]
    rank: NDArray[np.int32]
    unseen_rank: NDArray[np.int32]
    history_length: NDArray[np.int32]
    target_count: NDArray[np.int32]
    n_best: int

    def metric(self, name: str) -> NDArray[np.float64]:
        """A metric of every user, float64 ``[N]``; its mean is RecBole's figure.

        Args:
            name: ``recall@10``, ``ndcg@5``, ...; with one target a user these are 1 and ``1 / log2(rank + 1)`` for a
                target among the best k, else 0.

        Raises:
            UserError: another metric, or a k above ``n_best``.
        """
        kind, _, k = name.lower().partition("@")
        if kind not in METRICS or not k.isdigit():
            raise UserError(f"there is no metric {name!r} of single users: take recall@K or ndcg@K")
        if int(k) > self.n_best:
            raise UserError(f"{name} needs ranks up to {k}, but they were kept up to {self.n_best}: set topk")
        is_hit = self.rank <= int(k)
        return is_hit * (1.0 if kind == "recall" else 1.0 / np.log2(self.rank + 1.0))

    def of_users(self, index: NDArray[Any]) -> UserRanks:
        """The rows that ``index`` picks: a mask, bool ``[N]``, or row numbers, int64 ``[n]``."""
        rows = {name: value[index] for name, value in vars(self).items() if name != "n_best"}
        return UserRanks(**rows, n_best=self.n_best)

    def among_unseen(self) -> UserRanks:
        """The same users with ``unseen_rank`` for their rank."""
        return replace(self, rank=self.unseen_rank)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed ``.npz`` of plain arrays, atomically."""
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> UserRanks:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises:
            UserError: the file is missing or is no such file.
        """
        try:
            with np.load(Path(path), allow_pickle=False) as arrays:
                columns = {name: arrays[name] for name in cls.__dataclass_fields__}
                return cls(**{**columns, "n_best": int(columns["n_best"])})
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path} holds no ranks of users ({error}): run the model again") from error


class RecordingEvaluator(Evaluator):
    """RecBole's evaluator, which keeps what it was last given."""

    last: DataStruct | None = None

    def evaluate(self, dataobject: DataStruct) -> Any:
        self.last = dataobject
        return super().evaluate(dataobject)


def user_ranks(trainer: Any, eval_data: Any, dataset: Any, training_counts: NDArray[np.int64]) -> UserRanks | None:
    """The ranks behind the evaluation that a trainer has done last.

    Args:
        trainer: RecBole's, with a ``RecordingEvaluator``; has evaluated ``eval_data`` since.
        eval_data: the full-ranking loader of the test part.
        dataset: the whole data set.
        training_counts: training interactions of every item, int64 ``[n_items]``.

    Returns:
        ``None`` if there are no ranks to tell: negatives were sampled, a user has several targets, or the metrics do
        not look at the best k items.
    """
    struct = trainer.evaluator.last
    users, items = _targets(eval_data)
    if struct is None or "rec.topk" not in struct or users is None or items is None:
        return None
    topk = np.asarray(struct.get("rec.topk"))  # [N, n_best + 1]
    if len(topk) != len(users) or (topk[:, -1] != 1).any():
        return None
    n_best = topk.shape[1] - 1
    is_hit = topk[:, :-1] > 0
    rank = np.where(is_hit.any(axis=1), is_hit.argmax(axis=1), n_best) + 1
    unseen_rank = rank
    if eval_data.is_sequential:
        unseen_rank = unseen_ranks(trainer.scores, eval_data, dataset, users, items)
    feat = dataset.inter_feat
    flat = getattr(feat, "flat", feat)
    n_of_user = np.bincount(flat[dataset.uid_field].numpy(), minlength=dataset.user_num)
    return UserRanks(
        user=dataset.field2id_token[dataset.uid_field][users].astype(np.str_),
        item=dataset.field2id_token[dataset.iid_field][items].astype(np.str_),
        rank=rank.astype(np.int32),
        unseen_rank=unseen_rank.astype(np.int32),
        history_length=(n_of_user[users] - 1).astype(np.int32),
        target_count=training_counts[items].astype(np.int32),
        n_best=n_best,
    )


def _targets(eval_data: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]] | tuple[None, None]:
    """User and target of every row that a full-ranking loader evaluates, in its order; int64 ``[N]`` each."""
    if not isinstance(eval_data, FullSortEvalDataLoader):
        return None, None
    if eval_data.is_sequential:
        rows = eval_data._dataset.inter_feat
        users, items = rows[eval_data.uid_field].numpy(), rows[eval_data.iid_field].numpy()
        return (users, items) if len(np.unique(users)) == len(users) else (None, None)
    users = eval_data.uid_list.numpy()
    positive = [eval_data.uid2positive_item[user] for user in users]
    if any(len(items) != 1 for items in positive):
        return None, None
    return users, np.array([int(items[0]) for items in positive], dtype=np.int64)
