"""Full ranking by the rank of each user's target: no sorting, and no [users, items] matrix.

RecBole scores all items of a batch of users, sorts them for the best k, and looks the targets up in a matrix of the
same size. With one target a user, metrics over the best k items follow from one number: how many items score higher.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.evaluator.collector import DataStruct
from torch import Tensor
from tqdm import tqdm

from recbole_msm4sr.data.dataset import SequenceInteraction
from recbole_msm4sr.errors import UserError
from recbole_msm4sr.model import parallel
from recbole_msm4sr.model.base import PackedSequentialRecommender

#: Users and items of a block of scores: 2 MiB, which stays in the cache while it is compared.
_USERS_AT_ONCE, _ITEMS_AT_ONCE = 1024, 512
_PAIRS_AT_ONCE = 2**16


def applies(evaluator: Any, model: Any, eval_data: Any) -> bool:
    """Whether ranks are all that an evaluation needs.

    Args:
        evaluator: RecBole's ``Evaluator``, whose metrics must depend on the hits among the best k items alone.
        model: must be ours, whose scores are inner products.
        eval_data: must rank all items for rows with one target each.
    """
    return (
        isinstance(model, PackedSequentialRecommender)
        and isinstance(eval_data, FullSortEvalDataLoader)
        and isinstance(eval_data._dataset.inter_feat, SequenceInteraction)
        and all(metric.metric_need == ["rec.topk"] for metric in evaluator.metric_class.values())
    )


@torch.no_grad()
def rank_of_targets(model: PackedSequentialRecommender, eval_data: Any, *, show_progress: bool = False) -> Tensor:
    """Rank of every row's target among all items, padding excluded.

    Under torchrun the blocks of users are dealt to the processes, and every process returns all ranks.

    Args:
        model: is set to evaluation mode.
        eval_data: a full-ranking loader; its part of the split is read directly, whatever its batches.
        show_progress: show a bar.

    Returns:
        int64 ``[N]`` on the CPU, in the order of the part's rows; 1 for the item scored highest. Items of equal score
        come in the order of their ids.

    Raises:
        UserError: the model's vectors hold NaN or infinity.
    """
    model.eval()
    rows: SequenceInteraction = eval_data._dataset.inter_feat
    values = rows.flat[eval_data._dataset.iid_field]
    items = model.item_vectors()
    ranks = torch.zeros(len(rows), dtype=torch.int64, device=items.device)
    blocks = (rows.target - rows.start).argsort(stable=True).split(_USERS_AT_ONCE)  # of similar length
    for block in tqdm(parallel.own_share(blocks), desc="Evaluate", ncols=100, disable=not show_progress):
        part = rows.take(block)
        history = {name: part[name].to(items.device) for name in (model.ITEM_SEQ, model.ITEM_SEQ_LEN)}
        target = values[part.target].to(items.device)
        ranks[block.to(items.device)] = rank_in_catalogue(model.user_vectors(history), items, target)
    return parallel.sum_over_ranks(ranks).cpu()


def rank_in_catalogue(users: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """Rank of a target item for every user by inner product.

    Scores within the rounding error of the target's are compared again in float64, where equal vectors tie exactly.

    Args:
        users: float ``[U, k]``.
        items: float ``[n_items, k]``; row 0, padding, is not ranked.
        target: item ids, int64 ``[U]``.

    Returns:
        int64 ``[U]``, from 1; a tie goes to the smaller id.

    Raises:
        UserError: a score is NaN or infinite.
    """
    score = (users * items[target]).sum(dim=-1, keepdim=True)  # [U, 1]
    # a bound for the rounding errors of two inner products, whatever the order of summation
    relative = torch.finfo(users.dtype).eps * items.size(1)
    rounding = relative * users.norm(dim=-1, keepdim=True) * items.norm(dim=-1).max()  # [U, 1]
    if not torch.isfinite(rounding).all():
        raise UserError("the scores are not finite: the model diverged; lower the learning rate")
    highest, lowest = score + rounding, score - rounding
    higher = torch.zeros_like(target)
    for begin in range(1, len(items), _ITEMS_AT_ONCE):
        block = items[begin : begin + _ITEMS_AT_ONCE]
        scores = users @ block.T  # [U, b]
        above = (scores > highest).sum(dim=1)
        is_own = (target >= begin) & (target < begin + len(block))
        close = (scores >= lowest).sum(dim=1) - above > is_own.long()  # [U]: others than the target itself
        higher += above
        if close.any():
            row = close.nonzero().squeeze(1)
            near = (scores[row] >= lowest[row]) & (scores[row] <= highest[row])
            index, column = near.nonzero(as_tuple=True)
            for pairs in torch.arange(len(index), device=index.device).split(_PAIRS_AT_ONCE):
                user, item = row[index[pairs]], begin + column[pairs]
                higher.index_add_(0, user, _comes_before(users[user], items, item, target[user]))
    return higher + 1


def _comes_before(users: Tensor, items: Tensor, item: Tensor, target: Tensor) -> Tensor:
    """1 where ``item`` is ranked before ``target``, else 0; int64 ``[P]``, as the ids are."""
    difference = ((items[item].double() - items[target].double()) * users.double()).sum(dim=-1)
    return ((difference > 0) | ((difference == 0) & (item < target))).long()


def hits(ranks: Tensor, n_best: int) -> DataStruct:
    """What RecBole's metrics of the best k items read, from ranks int64 ``[N]`` of one target a row.

    Args:
        ranks: counted from 1.
        n_best: the largest k.

    Returns:
        ``rec.topk``: int ``[N, n_best + 1]``, 1 where the target stands; the last column is the number of targets.
    """
    struct = DataStruct()
    is_hit = ranks.unsqueeze(1) == torch.arange(1, n_best + 1)  # [N, n_best]
    struct.set("rec.topk", torch.cat([is_hit, torch.ones_like(ranks, dtype=torch.bool).unsqueeze(1)], dim=1).int())
    return struct
