"""SASRecM (table II): SASRec on the sum of text, image and ID embeddings."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbole_msm4sr.model.blocks.transformer import initialise
from recbole_msm4sr.model.m2se import M2SERecommender


class SASRecM(M2SERecommender):
    """Encodes modality features with MSM4SR's encoders, sums them with the ID embedding, and feeds one SASRec.

    Kang, McAuley: Self-Attentive Sequential Recommendation (ICDM 2018), as extended in the MSM4SR paper, IV-A 3.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.sampler = self.make_sampler(config, dataset)
        self.item_embedding = self.make_item_embedding(config["hidden_size"])
        self.apply(lambda module: initialise(module, config["initializer_range"]))

    def item_table(self, item_ids: Tensor | None = None) -> Tensor:
        """One stream: the sum over the modalities and the ID embedding, float ``[1, n, d0]``."""
        return self.m2se.encode_items(item_ids).sum(dim=0, keepdim=True) + self.item_embedding(item_ids)
