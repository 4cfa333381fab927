"""MSM4SR (later MP4SR): the pre-training model (eq. 6-11) and the fine-tuning model (eq. 12-13).

Zhang, Zhou, Shen: Multimodal Pre-training Framework for Sequential Recommendation via Contrastive Learning.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_msm4sr.model.base import TARGET
from recbole_msm4sr.model.blocks.transformer import initialise
from recbole_msm4sr.model.m2se import M2SERecommender
from recbole_msm4sr.model.pretrain_objective import PretrainObjective
from recbole_msm4sr.model.warm_start import load_parts


class MSM4SRPretrain(M2SERecommender):
    """Stage 1: pre-trains M2SE without item IDs.

    For validation it ranks items by what NIP learns: the cosines of m̂ and m̃ with z, summed over the modalities.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.objective = PretrainObjective(self.m2se.modalities, config)
        self.apply(lambda module: initialise(module, config["initializer_range"]))
        self.loss_names = self.objective.loss_names

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """NIP and λ CMCL of every modality (eq. 11), in the order of ``loss_names``."""
        return self.objective(
            self.m2se, interaction[self.ITEM_SEQ], interaction[TARGET], interaction[self.ITEM_SEQ_LEN]
        )

    def item_table(self, item_ids: Tensor | None = None) -> Tensor:
        return self.m2se.encode_items(item_ids)

    def vectors_of_items(self, table: Tensor) -> Tensor:
        return super().vectors_of_items(F.normalize(table, dim=-1))

    def vectors_of_states(self, states: Tensor) -> Tensor:
        spaces = self.objective.project(states).values()
        return torch.cat([F.normalize(m, dim=-1) + F.normalize(c, dim=-1) for m, c in spaces], dim=-1)


class MSM4SR(M2SERecommender):
    """Stage 2: fine-tunes the pre-trained M2SE together with item ID embeddings.

    ``similarity: dot`` scores by h^t (F^t + E) + h^v (F^v + E) (eq. 12); ``cosine`` divides each stream's cosine by
    the temperature, as the authors' code does. ``training: e2e`` adds the pre-training losses (table III).
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.sampler = self.make_sampler(config, dataset)
        self.item_embedding = self.make_item_embedding(config["hidden_size"]) if config["use_id"] else None
        self.objective = PretrainObjective(self.m2se.modalities, config) if config["training"] == "e2e" else None
        self.cosine = config["similarity"] == "cosine"
        self.temperature = config["temperature"]
        self.apply(lambda module: initialise(module, config["initializer_range"]))
        if self.objective is not None:
            self.loss_names = ("ce", *self.objective.loss_names)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        losses = super().calculate_loss(interaction)
        if self.objective is None:
            return losses
        return losses + self.objective(
            self.m2se, interaction[self.ITEM_SEQ], interaction[TARGET], interaction[self.ITEM_SEQ_LEN]
        )

    def item_table(self, item_ids: Tensor | None = None) -> Tensor:
        table = self.m2se.encode_items(item_ids)  # F^t and F^v, [M, n, d0]
        return table if self.item_embedding is None else table + self.item_embedding(item_ids)

    def vectors_of_items(self, table: Tensor) -> Tensor:
        return super().vectors_of_items(F.normalize(table, dim=-1) if self.cosine else table)

    def vectors_of_states(self, states: Tensor) -> Tensor:
        return super().vectors_of_states(F.normalize(states, dim=-1) / self.temperature if self.cosine else states)

    def load_backbone(self, state_dict: dict[str, Tensor]) -> None:
        """Initialise M2SE from a checkpoint's ``state_dict``; encoders of modalities not used here are left out.

        Raises:
            ValueError: the checkpoint has no M2SE, lacks a weight, or has one of another shape.
        """
        load_parts(self, state_dict, ("m2se",), "m2se.transformer")
