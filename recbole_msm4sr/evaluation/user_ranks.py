"""Where each user's target was ranked: what significance tests and metrics of groups are made of."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.evaluator import Evaluator
from torch import Tensor

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_file
from recbole_msm4sr.evaluation.ranking import History

#: Metrics that single users have.
METRICS = ("recall", "ndcg")
_USERS_AT_ONCE = 256


@dataclass(frozen=True)
class UserRanks:
    """Test results by user, one entry for each that has a target.

    Attributes:
        user: tokens, str ``[N]``.
        item: tokens of the targets, str ``[N]``.
        rank: of the target among all items that RecBole ranks (for sequential models those of the history, too), int32
            ``[N]``, from 1.
        unseen_rank: of the target among the items that its user has no other interaction with, int32 ``[N]``; for
            general models the same as ``rank``.
        history_length: interactions of the user before the target, int32 ``[N]``.
        target_count: training interactions of the target, int32 ``[N]``; below 10, table V calls an item cold.
    """

    user: NDArray[np.str_]
    item: NDArray[np.str_]
    rank: NDArray[np.int32]
    unseen_rank: NDArray[np.int32]
    history_length: NDArray[np.int32]
    target_count: NDArray[np.int32]

    def metric(self, name: str) -> NDArray[np.float64]:
        """A metric of every user, float64 ``[N]``; its mean is RecBole's figure.

        Args:
            name: ``recall@10``, ``ndcg@5``, ...; with one target a user these are 1 and ``1 / log2(rank + 1)`` for a
                target among the best k, else 0.

        Raises:
            UserError: another metric.
        """
        kind, _, k = name.lower().partition("@")
        if kind not in METRICS or not k.isdecimal():
            raise UserError(f"there is no metric {name!r} of single users: take recall@K or ndcg@K")
        return (self.rank <= int(k)) * (1.0 if kind == "recall" else 1.0 / np.log2(self.rank + 1.0))

    def of_users(self, index: NDArray[Any]) -> UserRanks:
        """The entries that ``index`` picks: a mask, bool ``[N]``, or numbers, int64 ``[n]``."""
        return UserRanks(**{name: value[index] for name, value in vars(self).items()})

    def among_unseen(self) -> UserRanks:
        """The same users with ``unseen_rank`` for their rank."""
        return replace(self, rank=self.unseen_rank)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed ``.npz`` of plain arrays, atomically."""
        content = io.BytesIO()  # on a full disk, numpy's own file would print a traceback when it is collected
        np.savez_compressed(content, **vars(self))
        with atomic_file(path) as temporary:
            temporary.write_bytes(content.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> UserRanks:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises:
            UserError: the file is missing, damaged or not such a file.
        """
        try:
            with np.load(Path(path), allow_pickle=False) as arrays:
                if set(arrays.files) != set(cls.__dataclass_fields__):
                    raise ValueError(f"it has {', '.join(arrays.files)}")
                ranks = cls(**{name: arrays[name] for name in arrays.files})
        except Exception as error:  # damaged archives raise whatever zipfile, zlib and NumPy's header reader run into
            raise UserError(f"{path} does not hold ranks of users ({error}): run the model again") from error
        for name, values in vars(ranks).items():
            wanted = "U" if name in ("user", "item") else "i"
            if values.dtype.kind != wanted or values.shape != (len(ranks.user),):
                raise UserError(f"{path} does not hold ranks of users ({name} does not fit): run the model again")
        return ranks


class RecordingEvaluator(Evaluator):
    """RecBole's evaluator, which keeps what it was last given."""

    last: DataStruct | None = None

    def evaluate(self, dataobject: DataStruct) -> Any:
        self.last = dataobject
        return super().evaluate(dataobject)


def user_ranks(
    trainer: Any, eval_data: Any, dataset: Any, history: History, training_counts: NDArray[np.int64]
) -> UserRanks | None:
    """The ranks behind the evaluation that a trainer has done last.

    Args:
        trainer: RecBole's, with a ``RecordingEvaluator``; has evaluated ``eval_data`` since.
        eval_data: the full-ranking loader of the test part.
        dataset: the whole data set.
        history: of its users.
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
    if "unseen_rank" in struct:  # ranked by ``ranking.rank_of_targets``
        rank, unseen_rank = (struct.get(name).numpy() for name in ("rank", "unseen_rank"))
    else:
        rank, unseen_rank = _ranks_by_scores(trainer, eval_data, history, users, items)
        is_hit = topk[:, :-1] > 0  # of equal scores RecBole takes any: its metrics decide
        rank = np.where(is_hit.any(axis=1), is_hit.argmax(axis=1) + 1, np.maximum(rank, topk.shape[1]))
    return UserRanks(
        user=dataset.field2id_token[dataset.uid_field][users].astype(np.str_),
        item=dataset.field2id_token[dataset.iid_field][items].astype(np.str_),
        rank=rank.astype(np.int32),
        unseen_rank=unseen_rank.astype(np.int32) if eval_data.is_sequential else rank.astype(np.int32),
        history_length=(history.length_of(users) - 1).astype(np.int32),
        target_count=training_counts[items].astype(np.int32),
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


@torch.no_grad()
def _ranks_by_scores(
    trainer: Any, eval_data: Any, history: History, users: NDArray[np.int64], items: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranks of the loader's targets among all items and among unseen ones, int64 ``[N]``; a tie goes by id."""
    ranks: list[Tensor] = []
    begin = 0
    for batch in eval_data:
        for scores in trainer.scores(batch).split(_USERS_AT_ONCE):
            end = begin + len(scores)
            target = torch.from_numpy(items[begin:end]).to(scores.device).unsqueeze(1)  # [B, 1]
            own = scores.gather(1, target)
            smaller_id = torch.arange(scores.size(1), device=scores.device) < target
            before = (scores > own) | ((scores == own) & smaller_id)
            before[:, 0] = False
            rank = before.sum(dim=1)
            row, item = (torch.from_numpy(index).to(scores.device) for index in history.of(users[begin:end]))
            before[row, item] = False  # the target, too, which is not before itself
            ranks.append(torch.stack([rank, before.sum(dim=1)]).cpu() + 1)
            begin = end
    exact, unseen = torch.cat(ranks, dim=1).numpy()
    return exact, unseen
