"""What our models share: scores are inner products of a user's and an item's vector."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor
from torch.nn import functional as F

#: Field of a packed batch: the next item at every position, 0 where there is none to predict; int64 [U, L].
TARGET = "target"

_ROWS_ENCODED_AT_ONCE = 512


class PackedSequentialRecommender(SequentialRecommender):
    """Base of the models that train on packed windows and keep an item table.

    A model has S streams (one per modality, or one). ``item_table`` gives the embeddings that sequences are made
    of, ``encode`` the hidden states; user and item vectors follow from both. In evaluation mode the table is built
    at its first use and kept until the model trains again, changes mode, moves or loads weights.
    """

    input_type = InputType.POINTWISE
    loss_names: tuple[str, ...] = ("ce",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self._tables: tuple[Tensor, Tensor] | None = None

    # -- what a model defines ------------------------------------------------------------------------------------
    def item_table(self) -> Tensor:
        """Embeddings of all items as sequences see them, float ``[S, n_items, d0]``."""
        raise NotImplementedError

    def encode(self, table: Tensor, item_seq: Tensor) -> Tensor:
        """Hidden states float ``[S, U, L, d0]`` of left-aligned sequences int64 ``[U, L]``."""
        raise NotImplementedError

    def vectors_of_items(self, table: Tensor) -> Tensor:
        """The items' side of the score, float ``[n_items, k]``; by default the streams side by side (eq. 12)."""
        return torch.cat(tuple(table), dim=-1)

    def vectors_of_states(self, states: Tensor) -> Tensor:
        """The users' side of the score, float ``[..., k]``, from hidden states ``[S, ..., d0]``."""
        return torch.cat(tuple(states), dim=-1)

    # -- contract ------------------------------------------------------------------------------------------------
    def item_vectors(self) -> Tensor:
        """Vectors of all items, float ``[n_items, k]``; row 0 is padding."""
        return self._item_tables()[1]

    def user_vectors(self, interaction: Any) -> Tensor:
        """Vectors float ``[B, k]`` of the histories in ``interaction``; score = user vector · item vector."""
        table, _ = self._item_tables()
        item_seq, item_length = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        order = item_length.argsort(stable=True)
        vectors = []
        for rows in order.split(_ROWS_ENCODED_AT_ONCE):  # of similar length, so that little padding is encoded
            last = item_length[rows] - 1  # [b]
            states = self.encode(table, item_seq[rows, : int(last[-1]) + 1])  # [S, b, L', d0]
            vectors.append(self.vectors_of_states(states[:, torch.arange(len(rows), device=rows.device), last]))
        return torch.cat(vectors)[order.argsort()]

    # -- RecBole's hooks -----------------------------------------------------------------------------------------
    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Cross entropy over all items, mean over the (sequence, next item) pairs of a packed batch (eq. 13)."""
        table = self.item_table()
        target = interaction[TARGET]
        row, time = target.nonzero(as_tuple=True)  # [P] each
        states = self.encode(table, interaction[self.ITEM_SEQ])[:, row, time]  # [S, P, d0]
        items = self.vectors_of_items(table)[1:]  # padding is not an item
        logits = self.vectors_of_states(states) @ items.T  # [P, n_items - 1]
        return (F.cross_entropy(logits, target[row, time] - 1),)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, float ``[B, n_items]``."""
        return self.user_vectors(interaction) @ self.item_vectors().T

    def predict(self, interaction: Any) -> Tensor:
        """Scores float ``[B]`` of the items in ``interaction``."""
        return (self.user_vectors(interaction) * self.item_vectors()[interaction[self.ITEM_ID]]).sum(dim=-1)

    # -- item table of an evaluation -----------------------------------------------------------------------------
    def train(self, mode: bool = True) -> PackedSequentialRecommender:
        self._tables = None
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> PackedSequentialRecommender:
        self._tables = None  # .to(), .cuda(), .double()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._tables = None
        super()._load_from_state_dict(*args, **kwargs)

    def _item_tables(self) -> tuple[Tensor, Tensor]:
        if self._tables is not None:
            return self._tables
        table = self.item_table()
        tables = table, self.vectors_of_items(table)
        if not self.training and not torch.is_grad_enabled():
            self._tables = tables
        return tables
