"""DIF-SR: item IDs whose attention is guided by side information, and predictors of the next item's attributes.

Xie, Zhou, Kim: Decoupled Side Information Fusion for Sequential Recommendation (SIGIR 2022).
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from recbole.utils import FeatureType
from torch import Tensor, nn

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.gather import global_mean
from recbole_msm4sr.model.base import PackedSequentialRecommender
from recbole_msm4sr.model.blocks.decoupled_transformer import DecoupledTransformer
from recbole_msm4sr.model.blocks.side_information import AttributeEmbedding, FeatureProjection, mean_of_rows
from recbole_msm4sr.model.blocks.transformer import initialise, transformer_settings


class DIFSR(PackedSequentialRecommender):
    """Side information is attributes (``selected_features``), and optionally feature stores (``modalities``).

    Attributes are also predicted: a linear map of the hidden state gives the logits of the next item's values. Of a
    feature store there is nothing to predict.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.sampler = self.make_sampler(config, dataset)
        self.hidden_size, self.side_size = config["hidden_size"], config["attribute_hidden_size"]
        self.item_embedding = self.make_item_embedding(self.hidden_size)
        names = list(config["selected_features"])
        self.attributes = nn.ModuleList(
            AttributeEmbedding(_values_of(dataset, name), dataset.num(name), self.side_size) for name in names
        )
        self.projections = nn.ModuleList(
            FeatureProjection(mean_of_rows(*dataset.item_features[name]), self.side_size)
            for name in config["modalities"]
        )
        self.attribute_weight = config["attribute_weight"]
        predicted = names if self.attribute_weight else []
        self.predictors = nn.ModuleList(nn.Linear(self.hidden_size, dataset.num(name) - 1) for name in predicted)
        self.loss_names = ("ce", *predicted)
        self.transformer = DecoupledTransformer(
            hidden_size=self.hidden_size,
            side_sizes=[self.side_size] * (len(self.attributes) + len(self.projections)),
            fusion_type=config["fusion_type"],
            **transformer_settings(config),
        )
        self.apply(lambda module: initialise(module, config["initializer_range"]))

    def item_table(self, item_ids: Tensor | None = None) -> Tensor:
        """ID embedding and every side embedding, side by side; float ``[1, n, d0 + sides * side size]``."""
        sides = [module(item_ids) for module in (*self.attributes, *self.projections)]
        return torch.cat([self.item_embedding(item_ids), *sides], dim=-1).unsqueeze(0)

    def encode(self, table: Tensor, index_seq: Tensor, last: Tensor | None = None) -> Tensor:
        embeddings = table[0, index_seq]  # [U, L, d0 + sides * side size]
        sides = embeddings[..., self.hidden_size :].split(self.side_size, dim=-1)
        return self.transformer(embeddings[..., : self.hidden_size], sides, last).unsqueeze(0)

    def vectors_of_items(self, table: Tensor) -> Tensor:
        """Item IDs alone: side information is not ranked."""
        return table[0, :, : self.hidden_size]

    def auxiliary_losses(self, states: Tensor, item_ids: Tensor) -> tuple[Tensor, ...]:
        """λ times the binary cross entropy of every attribute's values, mean over pairs and values."""
        losses = []
        for attribute, predictor in zip(self.attributes, self.predictors, strict=False):  # predictors may be left out
            labels = cast(AttributeEmbedding, attribute).labels(item_ids)  # [P, values]
            logits = predictor(states[0]).to(labels.dtype)
            total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
            losses.append(self.attribute_weight * global_mean(total / labels.size(1), len(labels)))
        return tuple(losses)


def _values_of(dataset: Any, name: str) -> Tensor:
    """An attribute's values, int64 ``[n_items]`` or ``[n_items, W]``."""
    kind = dataset.field2type[name]
    if kind not in (FeatureType.TOKEN, FeatureType.TOKEN_SEQ):
        raise UserError(f"selected_features takes columns of type token or token_seq; {name} is {kind.value}")
    if dataset.num(name) < 2:
        raise UserError(f"no item has a value of {name}: leave it out of selected_features")
    return dataset.get_item_feature()[name]
