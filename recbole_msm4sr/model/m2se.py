"""M2SE, the Multimodal Mixup Sequence Encoder (III-B): item encoders, mixup, transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from recbole_msm4sr.model.base import PackedSequentialRecommender
from recbole_msm4sr.model.blocks.augmentation import complementary_mixup
from recbole_msm4sr.model.blocks.encoder import ModalityEncoder
from recbole_msm4sr.model.blocks.transformer import CausalTransformer, transformer_settings

#: A modality's features: rows float [R, d] and offsets int64 [n_items + 1]; item 0 is padding and owns no row.
ItemFeatures = tuple[Tensor, Tensor]


class M2SE(nn.Module):
    """The backbone that pre-training and fine-tuning share.

    Its weights do not depend on the catalogue, so they carry over to other data sets.

    Args:
        features: modality name to its ``ItemFeatures``, in the order of the streams ``M`` below.
        config: a RecBole config (or mapping) with the keys of ``Packed.yaml``, ``Transformer.yaml``
            and ``M2SE.yaml``.
    """

    def __init__(self, features: Mapping[str, ItemFeatures], config: Any) -> None:
        super().__init__()
        self.modalities = tuple(features)
        self.encoders = nn.ModuleDict(
            {
                name: ModalityEncoder(
                    values,
                    offsets,
                    hidden_size=config["hidden_size"],
                    attention_size=config["attention_size"],
                    n_experts=config["n_experts"],
                    dropout_prob=config["encoder_dropout_prob"],
                    norm_init=config["expert_norm_init"],
                )
                for name, (values, offsets) in features.items()
            }
        )
        self.transformer = CausalTransformer(hidden_size=config["hidden_size"], **transformer_settings(config))

    def encode_items(self, item_ids: Tensor | None = None) -> Tensor:
        """Item embeddings z of every modality, float ``[M, n, d0]``; ``item_ids`` int64 ``[n]``, or all items."""
        return torch.stack([self.encoders[name](item_ids) for name in self.modalities])

    def content_ids(self, item_ids: Tensor) -> Tensor:
        """Which of the items int64 ``[n]`` have the same content, -1 where one has none: int64 ``[M, n]``."""
        encoders = (cast(ModalityEncoder, self.encoders[name]) for name in self.modalities)
        return torch.stack([encoder.content_ids(item_ids) for encoder in encoders])

    def forward(self, table: Tensor, index_seq: Tensor, mixup_ratio: Tensor | None = None) -> Tensor:
        """Encode sequences of items.

        Args:
            table: item embeddings float ``[M, n, d0]``.
            index_seq: left-aligned sequences of indices into ``table``; int64 ``[U, L]``.
            mixup_ratio: p of every position, float ``[U, L]``; ``None`` (or one modality) mixes nothing.

        Returns:
            Hidden states H_L float ``[M, U, L, d0]``; position t has seen the items 0..t.
        """
        streams = table[:, index_seq]  # [M, U, L, d0]
        if mixup_ratio is not None and len(self.modalities) == 2:
            streams = torch.stack(complementary_mixup(streams[0], streams[1], mixup_ratio))
        return self.transformer(streams)


class M2SERecommender(PackedSequentialRecommender):
    """Base of the models whose items are encoded by M2SE, and their sequences by its transformer."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.m2se = M2SE({name: dataset.item_features[name] for name in config["modalities"]}, config)

    @property
    def sequence_encoder(self) -> nn.Module:
        return self.m2se.transformer
