"""GRCN: the graph of interactions, refined by what users and items have in common in each modality.

Wei, Wang, Nie, He, Chua: Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback
(ACM Multimedia 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_msm4sr.model.baselines.general import (
    MultimodalGeneralRecommender,
    bpr_loss,
    interaction_graph,
    mean_features,
)
from recbole_msm4sr.model.baselines.sparse_graph import SparseGraph
from recbole_msm4sr.model.blocks.side_information import FeatureProjection


class GRCN(MultimodalGeneralRecommender):
    """Contents weigh the edges; ID embeddings spread along the weighted edges.

    A ``ContentGraph`` a modality gives contents of users and items, and the affinity of the two ends of every edge.
    An edge's weight is the largest, over the modalities, of its affinity times a learned confidence of the sending node
    in that modality. ``pruning: hard`` cuts edges of negative weight. Graph convolutions over the weighted edges refine
    the ID embeddings; users and items are these and their contents, side by side.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size = config["embedding_size"]
        features = mean_features(config, dataset)
        self.n_layers = config["n_layers"]
        self.prunes_hard = config["pruning"] == "hard"
        self.reg_weight = config["reg_weight"]
        self.graph = interaction_graph(dataset)
        self.contents = nn.ModuleList(
            ContentGraph(rows, self.n_users, size, config["n_routings"]) for rows in features.values()
        )
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.item_embedding = nn.Embedding(self.n_items, size)
        self.user_confidence = nn.Embedding(self.n_users, len(features))
        self.item_confidence = nn.Embedding(self.n_items, len(features))
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.xavier_normal_(module.weight)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Vectors of all users, float ``[n_users, k]``, and of all items, float ``[n_items, k]``."""
        users, items = self._parts()
        return torch.cat(users, dim=1), torch.cat(items, dim=1)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """BPR, and ``reg_weight`` times the mean squares of the batch's ID embeddings and preferences."""
        user, item = interaction[self.USER_ID], torch.cat([interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]])
        users, items = self._parts()
        own = torch.cat([F.embedding(user, part) for part in users], dim=1)
        positives, negatives = torch.cat([F.embedding(item, part) for part in items], dim=1).chunk(2)
        penalised = [self.user_embedding(user), self.item_embedding(item)]
        penalised += [cast(ContentGraph, content).preference(user) for content in self.contents]
        penalty = torch.stack([rows.square().mean() for rows in penalised]).sum()
        return bpr_loss(own, positives, negatives), self.reg_weight * penalty

    def _parts(self) -> tuple[list[Tensor], list[Tensor]]:
        """Refined IDs, then contents by modality, of users, float ``[n_users, d]`` each, and of items."""
        users, items, to_users, to_items = zip(*(content(self.graph) for content in self.contents), strict=True)
        refined_users, refined_items = self._refined_ids(
            self._edge_weights(to_users, self.graph.columns, self.item_confidence),
            self._edge_weights(to_items, self.graph.rows, self.user_confidence),
        )
        return [refined_users, *users], [refined_items, *items]

    def _edge_weights(self, affinities: Sequence[Tensor], sender: Tensor, confidence: nn.Embedding) -> Tensor:
        """One weight an edge, float ``[E]``, from its affinities ``[E]`` in the modalities and its sending node."""
        by_modality = torch.stack(tuple(affinities), dim=1) * confidence(sender)  # [E, M]
        weights = by_modality.amax(dim=1)
        return weights.relu() if self.prunes_hard else weights

    def _refined_ids(self, to_users: Tensor, to_items: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over the layers of graph convolution, float ``[n_users, d]`` and ``[n_items, d]``."""
        users, items = F.normalize(self.user_embedding.weight), F.normalize(self.item_embedding.weight)
        all_users, all_items = users, items
        for _ in range(self.n_layers):
            users, items = self.graph.to_rows(to_users, items), self.graph.to_columns(to_items, users)
            all_users, all_items = all_users + users, all_items + items
        return all_users, all_items


class ContentGraph(nn.Module):
    """Users and items in one modality: prototypes of users by neighbour routing, and what edges are worth.

    Args:
        features: one vector an item, float ``[n_items, d_m]``; an item without the modality has zeros, which the
            projection's bias turns into one learned vector.
        n_users: number of users.
        size: d, of users and items.
        n_routings: rounds in which a user's prototype moves towards those of its items that are nearest to it.
    """

    def __init__(self, features: Tensor, n_users: int, size: int, n_routings: int) -> None:
        super().__init__()
        self.projection = FeatureProjection(features, size)
        self.preference = nn.Embedding(n_users, size)
        self.n_routings = n_routings

    def forward(self, graph: SparseGraph) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Users float ``[n_users, d]``, items float ``[n_items, d]``, and their affinities.

        Those are the weights with which a user takes from its items and an item from its users, float ``[E]`` each;
        they sum to 1 over a node's edges.
        """
        items = F.normalize(F.leaky_relu(self.projection()))
        users = F.normalize(self.preference.weight)
        for _ in range(self.n_routings):
            affinity = graph.softmax_in_rows(graph.products(users, items))
            users = F.normalize(users + graph.to_rows(affinity, items))
        logits = graph.products(users, items)
        to_users, to_items = graph.softmax_in_rows(logits), graph.softmax_in_columns(logits)
        all_users = users + graph.to_rows(to_users, items)
        all_items = items + graph.to_columns(to_items, users)
        return all_users, all_items, to_users, to_items
