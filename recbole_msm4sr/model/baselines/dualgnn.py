"""DualGNN: preferences of users in each modality, fused user by user, and shared among users of the same taste.

Wang, Wei, Yin, Wu, Song, Nie: DualGNN: Dual Graph Neural Network for Multimedia Recommendation (IEEE Transactions on
Multimedia 2021).
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_msm4sr.model.baselines.co_occurrence import co_occurrence
from recbole_msm4sr.model.baselines.general import (
    MultimodalGeneralRecommender,
    bpr_loss,
    interaction_graph,
    mean_features,
)


class DualGNN(MultimodalGeneralRecommender):
    """Two graphs: users and items, where preferences spread in every modality, and users who share items.

    Each modality propagates users' preferences and encoded items over the graph of interactions, as LightGCN does. A
    user is the sum of its modalities by weights of its own, which are learned, plus the mean of its co-occurring users
    by the softmax of the number of common items; an item is the plain sum of its modalities. There are no item IDs.
    """

    edge_weights: Tensor
    neighbor_weights: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size = config["embedding_size"]
        features = mean_features(config, dataset)
        self.n_layers, self.reg_weight = config["n_layers"], config["reg_weight"]
        self.graph = interaction_graph(dataset)
        self.register_buffer("edge_weights", self.graph.symmetric_weights(), persistent=False)  # [E]
        self.user_graph, n_common = co_occurrence(self.graph, config["n_neighbors"])
        neighbor_weights = self.user_graph.softmax_in_rows(n_common.float())
        self.register_buffer("neighbor_weights", neighbor_weights, persistent=False)  # [E of user_graph]
        self.encoders = nn.ModuleList(ItemEncoder(rows, size) for rows in features.values())
        self.preferences = nn.ModuleList(nn.Embedding(self.n_users, size) for _ in features)
        self.modality_weights = nn.Embedding(self.n_users, len(features))
        for embedding in (*self.preferences, self.modality_weights):
            nn.init.xavier_normal_(cast(nn.Embedding, embedding).weight)
        with torch.no_grad():
            self.modality_weights.weight.copy_(self.modality_weights.weight.softmax(dim=1))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Vectors of all users, float ``[n_users, d]``, and of all items, float ``[n_items, d]``."""
        users, items = self._propagated()
        users = (users * self.modality_weights.weight.unsqueeze(2)).sum(dim=1)
        return users + self.user_graph.to_rows(self.neighbor_weights, users), items.sum(dim=1)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """BPR, and ``reg_weight`` times the mean squares of the batch's preferences and of all modality weights."""
        user, item = interaction[self.USER_ID], torch.cat([interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]])
        users, items = self.forward()
        positives, negatives = F.embedding(item, items).chunk(2)
        penalised = [cast(nn.Embedding, preference)(user) for preference in self.preferences]
        penalised.append(self.modality_weights.weight[1:])  # without padding
        penalty = torch.stack([rows.square().mean() for rows in penalised]).sum()
        return bpr_loss(F.embedding(user, users), positives, negatives), self.reg_weight * penalty

    def _propagated(self) -> tuple[Tensor, Tensor]:
        """Users and items in every modality, summed over layers, float ``[n_users, M, d]`` and ``[n_items, M, d]``."""
        # modalities side by side: one product for all
        users = torch.cat([F.normalize(cast(nn.Embedding, module).weight) for module in self.preferences], dim=1)
        items = torch.cat([F.normalize(encoder()) for encoder in self.encoders], dim=1)
        all_users, all_items = users, items
        for _ in range(self.n_layers):
            users, items = (
                self.graph.to_rows(self.edge_weights, items),
                self.graph.to_columns(self.edge_weights, users),
            )
            all_users, all_items = all_users + users, all_items + items
        shape = (len(self.encoders), -1)
        return all_users.unflatten(1, shape), all_items.unflatten(1, shape)


class ItemEncoder(nn.Module):
    """Two layers that map an item's features to d dimensions.

    Args:
        features: one vector an item, float ``[n_items, d_m]``; an item without the modality has zeros, which the biases
            turn into one learned vector.
        size: d.
    """

    features: Tensor

    def __init__(self, features: Tensor, size: int) -> None:
        super().__init__()
        self.register_buffer("features", features, persistent=False)
        self.layers = nn.Sequential(nn.Linear(features.size(1), 4 * size), nn.LeakyReLU(), nn.Linear(4 * size, size))

    def forward(self) -> Tensor:
        """All items, float ``[n_items, d]``."""
        return self.layers(self.features)
