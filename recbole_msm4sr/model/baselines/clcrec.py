"""CLCRec: item contents that learn to stand in for item IDs, so that items without interactions can be recommended.

Wei, Wang, Li, Nie, Li, Li, Chua: Contrastive Learning for Cold-start Recommendation (ACM Multimedia 2021).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_msm4sr.model.baselines.general import MultimodalGeneralRecommender, interaction_graph, mean_features
from recbole_msm4sr.model.baselines.negative_sampler import NegativeSampler


class CLCRec(MultimodalGeneralRecommender):
    """A user is its ID embedding; an item is its own, or its encoded content if training has hardly seen it.

    Two contrasts are learned, each of a positive pair against random negatives: between an item's ID embedding and its
    content (R-E), and between a user and an item (U-I), where at random content takes the place of the ID embedding.
    """

    loss_names = ("id_content", "user_item", "regularisation")
    features: Tensor
    is_cold: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size, inner_size = config["embedding_size"], config["inner_size"]
        self.temperature, self.n_negatives = config["temperature"], config["n_negatives"]
        self.content_weight, self.replacement_prob = config["content_weight"], config["replacement_prob"]
        self.reg_weight = config["reg_weight"]
        features = [F.normalize(rows) for rows in mean_features(config, dataset).values()]
        self.register_buffer("features", torch.cat(features, dim=1), persistent=False)  # [n_items, d]
        counts = torch.bincount(dataset.inter_feat[self.ITEM_ID], minlength=self.n_items)
        self.register_buffer("is_cold", counts < config["min_item_count"], persistent=False)  # [n_items]
        self.negatives = NegativeSampler(interaction_graph(dataset))
        self.encoder = nn.Sequential(
            nn.Linear(self.features.size(1), inner_size), nn.LeakyReLU(), nn.Linear(inner_size, size)
        )
        self.user_embedding = nn.Embedding(self.n_users, size)
        self.item_embedding = nn.Embedding(self.n_items, size)
        for embedding in (self.user_embedding, self.item_embedding):
            nn.init.xavier_normal_(embedding.weight)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Vectors of all users, float ``[n_users, d]``, and of all items, float ``[n_items, d]``."""
        content = self.encoder(self.features)
        return self.user_embedding.weight, torch.where(self.is_cold[:, None], content, self.item_embedding.weight)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """``content_weight`` times R-E, the rest times U-I, ``reg_weight`` times the mean norm of ID embeddings.

        Means over the batch's (user, item) pairs.
        """
        user = interaction[self.USER_ID]
        candidates = torch.cat(
            [interaction[self.ITEM_ID].unsqueeze(1), self.negatives.draw(user, self.n_negatives)], dim=1
        )  # [B, 1 + N], the positive first
        distinct, index = torch.unique(candidates, return_inverse=True)  # [n], [B, 1 + N]
        ids, content = self.item_embedding(distinct), self.encoder(self.features[distinct])  # [n, d] each
        users = self.user_embedding(user)  # [B, d]
        id_content = self._contrast(F.normalize(F.embedding(index[:, 0], ids)), F.normalize(content), index)
        is_replaced = torch.rand(index.shape, device=index.device) < self.replacement_prob
        user_item = self._contrast(users, torch.cat([ids, content]), index + len(ids) * is_replaced)
        norms = users.norm(dim=1).mean() + ids.norm(dim=1)[index].mean()
        return self.content_weight * id_content, (1 - self.content_weight) * user_item, self.reg_weight * norms / 2

    def _contrast(self, anchors: Tensor, vectors: Tensor, index: Tensor) -> Tensor:
        """InfoNCE of inner products over the temperature.

        Args:
            anchors: float ``[B, d]``.
            vectors: of all candidates, float ``[n, d]``.
            index: candidates of every anchor, the positive first; int64 ``[B, 1 + N]``.
        """
        logits = torch.einsum("bd,bnd->bn", anchors, F.embedding(index, vectors)) / self.temperature
        return F.cross_entropy(logits, torch.zeros_like(index[:, 0]))
