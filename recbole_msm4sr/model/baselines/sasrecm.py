"""SASRecM (table II): SASRec on the sum of text, image and ID embeddings."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbole_msm4sr.model.base import PackedSequentialRecommender
from recbole_msm4sr.model.blocks.transformer import initialise
from recbole_msm4sr.model.m2se import M2SE


class SASRecM(PackedSequentialRecommender):
    """Encodes modality features with MSM4SR's encoders, sums them with the ID embedding, and feeds one SASRec.

    Kang, McAuley: Self-Attentive Sequential Recommendation (ICDM 2018), as extended in the MSM4SR paper, IV-A 3.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.sampler = self.make_sampler(config, dataset)
        self.m2se = M2SE({name: dataset.item_features[name] for name in config["modalities"]}, config)
        self.item_embedding = self.make_item_embedding(config["hidden_size"])
        self.apply(lambda module: initialise(module, config["initializer_range"]))

    def item_table(self, item_ids: Tensor | None = None) -> Tensor:
        """One stream: the sum over the modalities and the ID embedding, float ``[1, n, d0]``."""
        ids = self.item_embedding.weight if item_ids is None else self.item_embedding(item_ids)
        return self.m2se.encode_items(item_ids).sum(dim=0, keepdim=True) + ids

    def encode(self, table: Tensor, item_seq: Tensor) -> Tensor:
        return self.m2se(table, item_seq)

    def encode_last(self, table: Tensor, item_seq: Tensor, last: Tensor) -> Tensor:
        return self.m2se.last_states(table, item_seq, last)
