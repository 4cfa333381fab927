"""What our sequential models share: scores are inner products of a user's and an item's vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_msm4sr.core.gather import global_mean
from recbole_msm4sr.core.precision import product_dtype
from recbole_msm4sr.model.blocks.embedding import ItemEmbedding
from recbole_msm4sr.model.blocks.sampled_softmax import CandidateSampler
from recbole_msm4sr.model.evaluation_cache import EvaluationCache
from recbole_msm4sr.model.kernels.softmax import softmax_cross_entropy

#: Field of a packed batch: the next item at every position, 0 where there is none to predict; int64 [U, L].
TARGET = "target"

_POSITIONS_ENCODED_AT_ONCE = 2048


class PackedSequentialRecommender(EvaluationCache, SequentialRecommender):
    """Base of the models that train on packed windows and keep an item table.

    A model has S streams (one per modality, or one). ``item_table`` gives the embeddings that sequences are made
    of, ``encode`` the hidden states; user and item vectors follow from both. In evaluation mode the table is built
    at its first use and kept until the model trains again, changes mode, moves or loads weights.
    """

    input_type = InputType.POINTWISE
    loss_names: tuple[str, ...] = ("ce",)
    n_items: int
    device: torch.device

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.sampler: CandidateSampler | None = None

    # -- what a model defines ------------------------------------------------------------------------------------
    def item_table(self, item_ids: Tensor | None = None) -> Tensor:
        """Embeddings of items as sequences see them, float ``[S, n, d0]``; of ``item_ids`` int64 ``[n]``, or of all."""
        raise NotImplementedError

    @property
    def sequence_encoder(self) -> nn.Module:
        """Maps embeddings of sequences float ``[S, U, L, d0]`` to hidden states; by default the model's transformer."""
        return cast(nn.Module, self.transformer)

    def encode(self, table: Tensor, index_seq: Tensor, last: Tensor | None = None) -> Tensor:
        """Hidden states of sequences.

        Args:
            table: embeddings of items, float ``[S, n, d0]``.
            index_seq: left-aligned sequences of positions in ``table``, which are item ids where it holds all items;
                int64 ``[U, L]``.
            last: the one position of every row that is asked for, int64 ``[U]``; ``None``: all.

        Returns:
            Float ``[S, U, L, d0]``, where state t has seen the items 0..t; or ``[S, U, d0]``.
        """
        return self.sequence_encoder(table[:, index_seq], last)

    def vectors_of_items(self, table: Tensor) -> Tensor:
        """The items' side of the score, float ``[n_items, k]``; by default the streams side by side (eq. 12)."""
        return torch.cat(tuple(table), dim=-1)

    def vectors_of_states(self, states: Tensor) -> Tensor:
        """The users' side of the score, float ``[..., k]``, from hidden states ``[S, ..., d0]``."""
        return torch.cat(tuple(states), dim=-1)

    def auxiliary_losses(self, states: Tensor, item_ids: Tensor) -> tuple[Tensor, ...]:
        """Losses beside the ranking of items, by the names after the first of ``loss_names``; by default none.

        Args:
            states: hidden states of a batch's (sequence, next item) pairs, float ``[S, P, d0]``.
            item_ids: their next items, int64 ``[P]``.
        """
        return ()

    def make_sampler(self, config: Any, dataset: Any) -> CandidateSampler | None:
        """What draws the candidates of ``loss_type: sampled``, from the training part ``dataset``; else nothing."""
        if config["loss_type"] != "sampled":
            return None
        counts = torch.bincount(dataset.inter_feat[self.ITEM_ID], minlength=self.n_items)
        return CandidateSampler(
            counts, config["n_negatives"], config["negative_distribution"], config["logq_correction"]
        )

    def make_item_embedding(self, size: int) -> ItemEmbedding:
        """ID embeddings; a sampled softmax touches few of them in a step, so their gradient is sparse."""
        return ItemEmbedding(self.n_items, size, padding_idx=0, sparse=self.sampler is not None)

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
        for rows, longest in _of_similar_length(order, item_length[order].tolist()):
            states = self.encode(table, item_seq[rows, :longest], item_length[rows] - 1)  # [S, b, d0]
            vectors.append(self.vectors_of_states(states))
        return torch.cat(vectors)[order.argsort()]

    # -- RecBole's hooks -----------------------------------------------------------------------------------------
    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Cross entropy, mean over the (sequence, next item) pairs of a packed batch (eq. 13), and what a model adds.

        It ranks all items, or, with ``loss_type: sampled``, the batch's targets and random negatives.
        """
        item_seq, next_items = interaction[self.ITEM_SEQ], interaction[TARGET]
        row, time = next_items.nonzero(as_tuple=True)  # [P] each
        item_ids = next_items[row, time]  # [P]
        if self.sampler is None:
            table = self.item_table()
            states = self.encode(table, item_seq)[:, row, time]  # [S, P, d0]
            vectors, items = self.vectors_of_states(states), self.vectors_of_items(table)[1:]  # without padding
            dtype = product_dtype(vectors)
            vectors, items = vectors.to(dtype), items.to(dtype)
            label = item_ids - 1
        else:
            candidates, correction = self.sampler.draw(item_ids)  # [C] each
            distinct, index = torch.unique(torch.cat([item_seq.flatten(), candidates]), return_inverse=True)
            table = self.item_table(distinct)
            index_seq, index = index[: item_seq.numel()].view_as(item_seq), index[item_seq.numel() :]
            states = self.encode(table, index_seq)[:, row, time]  # [S, P, d0]
            vectors = self.vectors_of_states(states)  # [P, k]
            items = self.vectors_of_items(table[:, index])  # [C, k]
            # score - correction as one inner product
            vectors = torch.cat([vectors, torch.ones_like(vectors[:, :1])], dim=1)
            items = torch.cat([items, -correction.to(items.dtype).unsqueeze(1)], dim=1)
            label = torch.searchsorted(candidates, item_ids)
        cross_entropy = global_mean(softmax_cross_entropy(vectors, items, label), len(row))
        return cross_entropy, *self.auxiliary_losses(states, item_ids)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, float ``[B, n_items]``."""
        return self.user_vectors(interaction) @ self.item_vectors().T

    def predict(self, interaction: Any) -> Tensor:
        """Scores float ``[B]`` of the items in ``interaction``."""
        return (self.user_vectors(interaction) * self.item_vectors()[interaction[self.ITEM_ID]]).sum(dim=-1)

    def _item_tables(self) -> tuple[Tensor, ...]:
        """The item table and the vectors made of it; kept during an evaluation."""

        def make() -> tuple[Tensor, ...]:
            table = self.item_table()
            return table, self.vectors_of_items(table)

        return self._kept(make)


def _of_similar_length(order: Tensor, length: list[int]) -> Iterator[tuple[Tensor, int]]:
    """Cut rows in order of their length into parts of about as many positions, padding included.

    Args:
        order: row numbers, int64 ``[B]``, shortest row first.
        length: their lengths, in that order.

    Yields:
        Row numbers int64 ``[b]`` and the longest of their lengths.
    """
    begin = 0
    while begin < len(length):
        end = min(begin + max(_POSITIONS_ENCODED_AT_ONCE // length[begin], 1), len(length))
        end = min(begin + max(_POSITIONS_ENCODED_AT_ONCE // length[end - 1], 1), end)
        yield order[begin:end], length[end - 1]
        begin = end
