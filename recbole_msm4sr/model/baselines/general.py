"""What our general models share: item features, the graph of training interactions, scores as inner products."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor

from recbole_msm4sr.model.baselines.sparse_graph import SparseGraph
from recbole_msm4sr.model.blocks.side_information import mean_of_rows
from recbole_msm4sr.model.evaluation_cache import EvaluationCache


class MultimodalGeneralRecommender(EvaluationCache, GeneralRecommender):
    """Base of the models that score all items for a user by its id, whatever the order of its history.

    A model defines ``forward``; in evaluation mode its outcome is kept until weights may have changed.

    Args:
        config: RecBole's.
        dataset: the training part of a ``MultimodalDataset``, the only interactions that a model sees.
    """

    input_type = InputType.PAIRWISE
    loss_names: tuple[str, ...] = ("bpr", "regularisation")
    n_users: int
    n_items: int

    def forward(self) -> tuple[Tensor, Tensor]:
        """Vectors of all users, float ``[n_users, k]``, and of all items, float ``[n_items, k]``."""
        raise NotImplementedError

    def item_vectors(self) -> Tensor:
        """Vectors of all items, float ``[n_items, k]``; row 0 is padding."""
        return self._kept(self.forward)[1]

    def user_vectors(self, interaction: Any) -> Tensor:
        """Vectors float ``[B, k]`` of the users in ``interaction``; score = user vector · item vector."""
        return self._kept(self.forward)[0][interaction[self.USER_ID]]

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, float ``[B, n_items]``."""
        return self.user_vectors(interaction) @ self.item_vectors().T

    def predict(self, interaction: Any) -> Tensor:
        """Scores float ``[B]`` of the items in ``interaction``."""
        return (self.user_vectors(interaction) * self.item_vectors()[interaction[self.ITEM_ID]]).sum(dim=-1)


def interaction_graph(dataset: Any) -> SparseGraph:
    """Graph of users (rows) and the items they have interacted with (columns), each pair once."""
    pairs = dataset.inter_feat[dataset.uid_field], dataset.inter_feat[dataset.iid_field]
    return SparseGraph(*pairs, dataset.num(dataset.uid_field), dataset.num(dataset.iid_field))


def mean_features(config: Any, dataset: Any) -> dict[str, Tensor]:
    """Mean feature row of every item by modality, float32 ``[n_items, d]``; zeros for an item without rows."""
    return {name: mean_of_rows(*dataset.item_features[name]) for name in config["modalities"]}


def bpr_loss(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Mean of ``-log sigmoid(u · i⁺ - u · i⁻)`` over triples of vectors, float ``[B, k]`` each."""
    return -F.logsigmoid((users * (positives - negatives)).sum(dim=-1)).mean()
