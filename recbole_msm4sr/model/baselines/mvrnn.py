"""MV-RNN: a recurrent network over several views of an item, its ID and its text and pictures.

Cui, Wu, Liu, Zhong, Wang: MV-RNN: A Multi-View Recurrent Neural Network for Sequential Recommendation (TKDE 2020).
"""

from __future__ import annotations

from logging import getLogger
from typing import Any, cast

import torch
from torch import Tensor, nn

from recbole_msm4sr.core.gather import global_mean
from recbole_msm4sr.core.precision import default_precision
from recbole_msm4sr.model.base import PackedSequentialRecommender
from recbole_msm4sr.model.blocks.dropout import Dropout, keep_mask
from recbole_msm4sr.model.blocks.side_information import FeatureProjection, mean_of_rows
from recbole_msm4sr.model.blocks.transformer import initialise


class MVRNN(PackedSequentialRecommender):
    """An item is its views side by side: the ID embedding x, and the projections E_k f_k of its features.

    ``view_combination: concatenation`` keeps one view a modality; ``addition`` makes them one view m = Σ E_k f_k;
    ``reconstruction`` also restores every f_k as E_kᵀ m, from features that training blanks at random (3mDAE).
    ``hidden_structure: united`` runs one LSTM over all V views, ``separate`` one over each. The hidden state is as wide
    as the item, V d0, and their inner product is the score.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.sampler = self.make_sampler(config, dataset)
        size = config["hidden_size"]
        self.item_embedding = self.make_item_embedding(size)
        self.projections = nn.ModuleList(
            FeatureProjection(mean_of_rows(*dataset.item_features[name]), size, bias=False)
            for name in config["modalities"]
        )
        self.concatenates = config["view_combination"] == "concatenation"
        self.reconstructs = config["view_combination"] == "reconstruction"
        self.corruption_prob = config["corruption_prob"] if self.reconstructs else 0.0
        self.reconstruction_weight = config["reconstruction_weight"]
        n_views = 1 + (len(self.projections) if self.concatenates else 1)
        widths = [n_views * size] if config["hidden_structure"] == "united" else [size] * n_views
        self.dropout = Dropout(config["hidden_dropout_prob"])
        self.units = nn.ModuleList(nn.LSTM(width, width, batch_first=True) for width in widths)
        self.runs_in_bf16 = default_precision(config["device"]) == "bf16"
        if config["precision"] == "bf16" and not self.runs_in_bf16:
            getLogger().warning("precision: bf16: this processor has no bfloat16 LSTM, so the LSTM runs in float32")
        if self.reconstructs:
            self.loss_names = ("ce", "reconstruction")
        self.apply(lambda module: initialise(module, config["initializer_range"]))

    def item_table(self, item_ids: Tensor | None = None) -> Tensor:
        """One stream: the views side by side, float ``[1, n, V * d0]``."""
        return torch.cat([self.item_embedding(item_ids), *self._observed_views(item_ids)], dim=-1).unsqueeze(0)

    def encode(self, table: Tensor, index_seq: Tensor, last: Tensor | None = None) -> Tensor:
        views = self.dropout(table[0, index_seq])  # [U, L, V * d0]
        device_type = views.device.type
        in_autocast = torch.is_autocast_enabled(device_type) and self.runs_in_bf16
        with torch.autocast(device_type, enabled=in_autocast):
            parts = views.chunk(len(self.units), dim=-1)
            states = [unit(part)[0] for unit, part in zip(self.units, parts, strict=True)]
        hidden = torch.cat(states, dim=-1)  # [U, L, V * d0]
        if last is not None:
            hidden = hidden[torch.arange(len(last), device=last.device), last]  # [U, V * d0]
        return hidden.unsqueeze(0)

    def auxiliary_losses(self, states: Tensor, item_ids: Tensor) -> tuple[Tensor, ...]:
        """Weight times half the squared error of every modality the next items have, mean over pairs and dimensions."""
        if not self.reconstructs:
            return ()
        (fused,) = self._observed_views(item_ids)  # [P, d0]
        errors = []
        for module in self.projections:
            projection = cast(FeatureProjection, module)
            features = projection.features[item_ids]  # [P, d]
            present = features.any(dim=-1)  # [P]
            restored = fused @ projection.projection.weight
            errors.append(((restored - features).square().mean(dim=-1) * present).sum())
        total = torch.stack(errors).sum() / 2
        return (self.reconstruction_weight * global_mean(total, len(item_ids)),)

    def _observed_views(self, item_ids: Tensor | None) -> list[Tensor]:
        """The views beside the ID, each float ``[n, d0]``; in training some items lack some modalities.

        Projections have no bias, so that blanking the projection is blanking the features.
        """
        views = [projection(item_ids) for projection in self.projections]
        if self.training and self.corruption_prob:
            views = [v * keep_mask(v[:, :1].shape, self.corruption_prob, v.device) for v in views]
        return views if self.concatenates else [torch.stack(views).sum(dim=0)]
