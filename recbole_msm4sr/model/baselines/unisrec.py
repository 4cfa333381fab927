"""UniSRec: text alone in pre-training, text with or without item IDs in fine-tuning.

Hou, Mu, Zhao, Li, Ding, Wen: Towards Universal Sequence Representation Learning for Recommender Systems (KDD 2022).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_msm4sr.core.gather import gather_rows
from recbole_msm4sr.model.base import TARGET, PackedSequentialRecommender
from recbole_msm4sr.model.blocks.augmentation import is_first_of_its_representation, sequence_dropout
from recbole_msm4sr.model.blocks.content import content_ids
from recbole_msm4sr.model.blocks.embedding import rows_of
from recbole_msm4sr.model.blocks.side_information import mean_of_rows
from recbole_msm4sr.model.blocks.transformer import CausalTransformer, initialise, transformer_settings
from recbole_msm4sr.model.blocks.whitening_adaptor import WhiteningAdaptor
from recbole_msm4sr.model.losses import nip_loss
from recbole_msm4sr.model.warm_start import load_parts


class TextSequenceRecommender(PackedSequentialRecommender):
    """What UniSRec's two stages share: adapted text vectors, a transformer, and cosines over the temperature.

    An item's text vector is the mean of its feature rows; several modalities lie side by side. An item without rows has
    zeros, which the adaptor's shifts turn into one learned vector.
    """

    features: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        means = [mean_of_rows(*dataset.item_features[name]) for name in config["modalities"]]
        self.register_buffer("features", torch.cat(means, dim=1), persistent=False)  # [n_items, d]
        self.temperature = config["temperature"]
        self.adaptor = WhiteningAdaptor(
            self.features.size(1), config["hidden_size"], config["n_experts"], config["adaptor_dropout_prob"]
        )
        self.transformer = CausalTransformer(hidden_size=config["hidden_size"], **transformer_settings(config))

    def item_table(self, item_ids: Tensor | None = None) -> Tensor:
        """One stream: adapted text, float ``[1, n, d0]``."""
        return self.adaptor(rows_of(self.features, item_ids)).unsqueeze(0)

    def vectors_of_items(self, table: Tensor) -> Tensor:
        return F.normalize(table[0], dim=-1)

    def vectors_of_states(self, states: Tensor) -> Tensor:
        return F.normalize(states[0], dim=-1) / self.temperature


class UniSRecPretrain(TextSequenceRecommender):
    """Stage 1: every sequence is contrasted with next items and with shortened sequences of its batch (2.2)."""

    loss_names = ("seq_item", "seq_seq")
    content: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        has_text = self.features.any(dim=1)  # [n_items]
        content = content_ids(self.features, torch.arange(self.n_items + 1)).where(has_text, -1)
        self.register_buffer("content", content, persistent=False)  # [n_items]
        self.sequence_dropout = config["sequence_dropout"]
        self.seq_seq_weight = config["seq_seq_weight"]
        self.apply(lambda module: initialise(module, config["initializer_range"]))

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Sequence-item loss, and λ times sequence-sequence loss; means over the pairs of a packed batch.

        Both are InfoNCE of cosines over the batch, without negatives of the same next item. In the first an item
        without text takes no part, and items of equal text are not each other's negatives. A shortened sequence that
        stands for two pairs, because it lacks the last item of one, is contrasted once.
        """
        item_seq, target = interaction[self.ITEM_SEQ], interaction[TARGET]
        shortened, last_kept = sequence_dropout(item_seq, interaction[self.ITEM_SEQ_LEN], self.sequence_dropout)
        row, time = target.nonzero(as_tuple=True)  # [P] each
        item_ids, column = target[row, time], last_kept[row, time]  # [P] each
        parts = (item_seq.flatten(), shortened.flatten(), item_ids)
        distinct, index = torch.unique(torch.cat(parts), return_inverse=True)
        index_seq, shortened_index, item_index = index.split([len(part) for part in parts])
        table = self.item_table(distinct)  # [1, n, d0]
        states = self.encode(table, index_seq.view_as(item_seq))[0, row, time]  # [P, d0]
        views = self.encode(table, shortened_index.view_as(shortened))[0, row, column]  # [P, d0]
        first = is_first_of_its_representation(row, column)  # [P]
        seq_item = self._contrast(states, table[0, item_index], self.content[item_ids])
        seq_seq = self._contrast(states[first], views[first], item_ids[first])
        return seq_item, self.seq_seq_weight * seq_seq

    def _contrast(self, states: Tensor, positives: Tensor, item_ids: Tensor) -> Tensor:
        """InfoNCE between float ``[P, d0]`` and ``[P, d0]``: NIP of eq. 7 where m̂ and m̃ are the same.

        Equal ids int64 ``[P]`` are not each other's negatives, and -1 takes no part.
        """
        item_ids, candidates = gather_rows(item_ids, positives)
        return nip_loss(states, states, candidates, item_ids, self.temperature, has_content=item_ids >= 0)


class UniSRec(TextSequenceRecommender):
    """Stage 2, or the only one: cross entropy over all items, of text (inductive) or text plus ID (transductive)."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.sampler = self.make_sampler(config, dataset)
        transductive = config["train_stage"] == "transductive_ft"
        self.item_embedding = self.make_item_embedding(config["hidden_size"]) if transductive else None
        self.apply(lambda module: initialise(module, config["initializer_range"]))

    def item_table(self, item_ids: Tensor | None = None) -> Tensor:
        """One stream: adapted text plus the ID embedding, if any, float ``[1, n, d0]``."""
        table = super().item_table(item_ids)
        return table if self.item_embedding is None else table + self.item_embedding(item_ids)

    def load_backbone(self, state_dict: dict[str, Tensor]) -> None:
        """Start adaptor and transformer from a ``UniSRecPretrain`` checkpoint's ``state_dict``.

        Raises:
            ValueError: it lacks a weight, or has one of another shape.
        """
        load_parts(self, state_dict, ("adaptor", "transformer"), "transformer")
