"""Full ranking by the rank of each user's target: no sorting, and no [users, items] matrix.

RecBole scores all items of a batch of users, sorts them for the best k, and looks the targets up in a matrix of the
same size. With one target a user, metrics over the best k items follow from one number: how many items score higher.
And once k items do, the others need no score.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.evaluator.collector import DataStruct
from torch import Tensor
from tqdm import tqdm

from recbole_msm4sr.core.distributed import own_share
from recbole_msm4sr.core.errors import DivergedError
from recbole_msm4sr.core.gather import sum_over_ranks
from recbole_msm4sr.data.dataset import SequenceInteraction, all_interactions
from recbole_msm4sr.data.sequences import ranges
from recbole_msm4sr.model.base import PackedSequentialRecommender

#: Users and items of a block of scores: 2 MiB, which stays in the cache while it is compared.
USERS_AT_ONCE, _ITEMS_AT_ONCE = 1024, 512
_PAIRS_AT_ONCE = 2**16
#: Users whose rank is settled leave a block once fewer than this share of it are open.
_SHARE_KEPT = 0.9
NOT_FINITE = "the scores are not finite: the model diverged; lower the learning rate"


def applies(evaluator: Any, model: Any, eval_data: Any) -> bool:
    """Whether ranks are all that an evaluation needs: metrics of the best k items, of a model whose scores are inner
    products, over all items, for rows with one target each.
    """
    return (
        isinstance(model, PackedSequentialRecommender)
        and isinstance(eval_data, FullSortEvalDataLoader)
        and isinstance(eval_data._dataset.inter_feat, SequenceInteraction)
        and all(metric.metric_need == ["rec.topk"] for metric in evaluator.metric_class.values())
    )


@torch.no_grad()
def rank_of_targets(
    model: PackedSequentialRecommender,
    part: Any,
    *,
    n_best: int | None = None,
    history: History | None = None,
    users_at_once: int = USERS_AT_ONCE,
    show_progress: bool = False,
) -> tuple[Tensor, Tensor]:
    """Rank of every row's target among all items, and among those that its user has no other interaction with.

    Padding is not ranked. Under torchrun the users are dealt to the processes, and every process returns all ranks.

    Args:
        model: is set to evaluation mode.
        part: a part of the split of a ``MultimodalSequentialDataset``.
        n_best: ranks up to this one are all that is asked for; a target below is given the rank ``n_best + 1`` or more,
            not always its own. Default: every rank is exact.
        history: of all users, for the second ranking; without it its ranks are 0.
        users_at_once: users that are encoded and ranked together.
        show_progress: show a bar.

    Returns:
        Two int64 ``[N]`` on the CPU, in the order of the part's rows; 1 for the item scored highest. Items of equal
        score come in the order of their ids.

    Raises:
        DivergedError: the model's vectors hold NaN or infinity.
    """
    model.eval()
    catalogue = Catalogue(model.item_vectors())
    device = catalogue.vectors.device
    owner = part.inter_feat[part.uid_field].numpy()
    ranks = torch.zeros(2, len(owner), dtype=torch.int64, device=device)
    for block, users, target in encoded_users(model, part, users_at_once, show_progress=show_progress):
        rank = rank_in_catalogue(users, catalogue, target, n_best)
        ranks[0, block.to(device)] = rank
        if history is not None:
            row, item = (torch.from_numpy(index).to(device) for index in history.of(owner[block.numpy()]))
            ranks[1, block.to(device)] = rank - _n_before(users, catalogue, row, item, target)
    exact, unseen = sum_over_ranks(ranks).cpu()
    return exact, unseen


def encoded_users(
    model: PackedSequentialRecommender, part: Any, users_at_once: int = USERS_AT_ONCE, *, show_progress: bool = False
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Encode the histories of a part's rows, in blocks of similar length; under torchrun this process's share of them.

    Yields:
        Row numbers int64 ``[u]``, user vectors float ``[u, k]``, and item ids of the targets int64 ``[u]``.
    """
    rows: SequenceInteraction = part.inter_feat
    item_of, device = rows.flat[part.iid_field], model.item_vectors().device
    blocks = (rows.next_position - rows.start).argsort(stable=True).split(users_at_once)
    for block in tqdm(own_share(blocks), desc="Evaluate", ncols=100, disable=not show_progress):
        taken = rows.take(block)
        inputs = {name: taken[name].to(device) for name in (model.ITEM_SEQ, model.ITEM_SEQ_LEN)}
        yield block, model.user_vectors(inputs), item_of[taken.next_position].to(device)


class History:
    """Which items users have interacted with.

    Args:
        dataset: the whole data set.
    """

    def __init__(self, dataset: Any) -> None:
        feat = all_interactions(dataset)
        users = feat[dataset.uid_field].numpy()
        self._items = feat[dataset.iid_field].numpy()[users.argsort(kind="stable")]
        self._start = np.concatenate([[0], np.bincount(users, minlength=dataset.user_num).cumsum()])
        self._n_items = dataset.item_num

    def length_of(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of interactions of every user."""
        return self._start[users + 1] - self._start[users]

    def of(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The distinct (row of ``users``, item) pairs of all their interactions, int64 ``[P]`` each."""
        count = self.length_of(users)
        row = np.repeat(np.arange(len(users)), count)
        pairs = np.unique(row * self._n_items + self._items[ranges(self._start[users], count)])
        return pairs // self._n_items, pairs % self._n_items


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
    largest = users.norm(dim=-1, keepdim=True) * catalogue.largest_norm  # [U, 1]; no score is larger
    if not torch.isfinite(largest).all():
        raise DivergedError(NOT_FINITE)
    # a bound for the rounding errors of two inner products, whatever the order of summation
    rounding = torch.finfo(users.dtype).eps * items.size(1) * largest
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
            higher += _n_before(users, catalogue, open_rows[row[index]], catalogue.ids[begin + column], target)
        if n_best is not None:
            is_open = higher[open_rows] < n_best
            if int(is_open.sum()) < _SHARE_KEPT * len(open_rows):
                open_rows = open_rows[is_open]
                open_users = users[open_rows]
            if not len(open_rows):
                break
    return higher + 1


def _n_before(users: Tensor, catalogue: Catalogue, row: Tensor, item: Tensor, target: Tensor) -> Tensor:
    """How many of the items paired with a user are ranked before the user's target; exact ties go by id.

    Args:
        users: float ``[U, k]``.
        row: rows of ``users``, int64 ``[P]``.
        item: the items paired with them, ids int64 ``[P]``.
        target: ids, int64 ``[U]``.

    Returns:
        int64 ``[U]``.
    """
    vectors, place = catalogue.vectors, catalogue.place
    before = torch.zeros_like(target)
    for pairs in torch.arange(len(row), device=row.device).split(_PAIRS_AT_ONCE):
        user, other, own = row[pairs], item[pairs], target[row[pairs]]
        difference = vectors[place[other]].double() - vectors[place[own]].double()  # [p, k]
        margin = (difference * users[user].double()).sum(dim=-1)
        before.index_add_(0, user, ((margin > 0) | ((margin == 0) & (other < own))).long())
    return before


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
