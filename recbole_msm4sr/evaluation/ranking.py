"""Full ranking by the rank of each user's target: no sorting, and no [users, items] matrix.

RecBole scores all items of a batch of users, sorts them for the best k, and looks the targets up in a matrix of the
same size. With one target a user, metrics over the best k items follow from one number: how many items score higher.
And once k items do, the others need no score.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.evaluator.collector import DataStruct
from torch import Tensor
from tqdm import tqdm

from recbole_msm4sr.core.errors import DivergedError
from recbole_msm4sr.data.dataset import SequenceInteraction
from recbole_msm4sr.model import parallel
from recbole_msm4sr.model.base import PackedSequentialRecommender

#: Users and items of a block of scores: 2 MiB, which stays in the cache while it is compared.
_USERS_AT_ONCE, _ITEMS_AT_ONCE = 1024, 512
_PAIRS_AT_ONCE = 2**16
#: Users whose rank is settled leave a block once fewer than this share of it are open.
_SHARE_KEPT = 0.9


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
def rank_of_targets(
    model: PackedSequentialRecommender, eval_data: Any, *, n_best: int | None = None, show_progress: bool = False
) -> Tensor:
    """Rank of every row's target among all items, padding excluded.

    Under torchrun the blocks of users are dealt to the processes, and every process returns all ranks.

    Args:
        model: is set to evaluation mode.
        eval_data: a full-ranking loader; its part of the split is read directly, whatever its batches.
        n_best: ranks up to this one are all that is asked for; a target below is given the rank ``n_best + 1`` or more,
            not always its own. Default: every rank is exact.
        show_progress: show a bar.

    Returns:
        int64 ``[N]`` on the CPU, in the order of the part's rows; 1 for the item scored highest. Items of equal score
        come in the order of their ids.

    Raises:
        DivergedError: the model's vectors hold NaN or infinity.
    """
    model.eval()
    rows: SequenceInteraction = eval_data._dataset.inter_feat
    values = rows.flat[eval_data._dataset.iid_field]
    catalogue = Catalogue(model.item_vectors())
    device = catalogue.vectors.device
    ranks = torch.zeros(len(rows), dtype=torch.int64, device=device)
    blocks = (rows.target - rows.start).argsort(stable=True).split(_USERS_AT_ONCE)  # of similar length
    for block in tqdm(parallel.own_share(blocks), desc="Evaluate", ncols=100, disable=not show_progress):
        part = rows.take(block)
        history = {name: part[name].to(device) for name in (model.ITEM_SEQ, model.ITEM_SEQ_LEN)}
        target = values[part.target].to(device)
        ranks[block.to(device)] = rank_in_catalogue(model.user_vectors(history), catalogue, target, n_best)
    return parallel.sum_over_ranks(ranks).cpu()


class Catalogue:
    """Items in the order in which they are scored: by falling norm, since long vectors tend to score high.

    Args:
        items: float ``[n_items, k]``; row 0, padding, is left out.

    Attributes:
        vectors: float ``[n_items - 1, k]``.
        ids: their item ids, int64 ``[n_items - 1]``.
        place: of every item id, its row in ``vectors``; int64 ``[n_items]``.
        largest_norm: scalar.
    """

    def __init__(self, items: Tensor) -> None:
        norms = items[1:].norm(dim=-1)
        self.ids = norms.argsort(descending=True, stable=True) + 1
        self.vectors = items[self.ids]
        self.place = torch.zeros(len(items), dtype=torch.int64, device=items.device)
        self.place[self.ids] = torch.arange(len(self.ids), device=items.device)
        self.largest_norm = norms.max()


def rank_in_catalogue(users: Tensor, catalogue: Catalogue, target: Tensor, n_best: int | None = None) -> Tensor:
    """Rank of a target item for every user by inner product.

    Scores within the rounding error of the target's are compared again in float64, where equal vectors tie exactly.

    Args:
        users: float ``[U, k]``.
        catalogue: the items.
        target: item ids, int64 ``[U]``.
        n_best: as in ``rank_of_targets``.

    Returns:
        int64 ``[U]``, from 1; a tie goes to the smaller id.

    Raises:
        DivergedError: a score is NaN or infinite.
    """
    items, place = catalogue.vectors, catalogue.place[target]
    score = (users * items[place]).sum(dim=-1, keepdim=True)  # [U, 1]
    # a bound for the rounding errors of two inner products, whatever the order of summation
    relative = torch.finfo(users.dtype).eps * items.size(1)
    rounding = relative * users.norm(dim=-1, keepdim=True) * catalogue.largest_norm  # [U, 1]
    if not torch.isfinite(rounding).all():
        raise DivergedError("the scores are not finite: the model diverged; lower the learning rate")
    bounds = torch.cat([score + rounding, score - rounding], dim=1)  # [U, 2]
    higher = torch.zeros_like(target)
    open_rows = torch.arange(len(users), device=users.device)  # of users whose rank is still asked for
    open_users = users
    for begin in range(0, len(items), _ITEMS_AT_ONCE):
        block = items[begin : begin + _ITEMS_AT_ONCE]
        scores = open_users @ block.T  # [u, b]
        highest, lowest = bounds[open_rows].split(1, dim=1)
        # Flags as floats: a vectorised comparison and sum, where those of booleans take four times as long.
        flags = torch.empty_like(scores)
        above = torch.gt(scores, highest, out=flags).sum(dim=1).long()
        own = place[open_rows]
        is_own = (own >= begin) & (own < begin + len(block))
        at_least = torch.ge(scores, lowest, out=flags).sum(dim=1).long()
        higher[open_rows] += above
        close = at_least - above > is_own.long()  # [u]: others than the target itself
        if close.any():
            row = close.nonzero().squeeze(1)
            near = (scores[row] >= lowest[row]) & (scores[row] <= highest[row])
            index, column = near.nonzero(as_tuple=True)
            for pairs in torch.arange(len(index), device=index.device).split(_PAIRS_AT_ONCE):
                user, item = open_rows[row[index[pairs]]], begin + column[pairs]
                higher.index_add_(0, user, _comes_before(users[user], catalogue, item, place[user]))
        if n_best is not None:
            is_open = higher[open_rows] < n_best
            if int(is_open.sum()) < _SHARE_KEPT * len(open_rows):
                open_rows = open_rows[is_open]
                open_users = users[open_rows]
            if not len(open_rows):
                break
    return higher + 1


def _comes_before(users: Tensor, catalogue: Catalogue, item: Tensor, target: Tensor) -> Tensor:
    """1 where ``item`` is ranked before ``target`` (places in the catalogue), else 0; int64 ``[P]``."""
    vectors, ids = catalogue.vectors, catalogue.ids
    difference = ((vectors[item].double() - vectors[target].double()) * users.double()).sum(dim=-1)
    return ((difference > 0) | ((difference == 0) & (ids[item] < ids[target]))).long()


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
