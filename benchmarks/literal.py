"""The paper written down plainly (equations 3-13): the reference for speed and for correctness.

As in the published implementation, a row is one of RecBole's prefixes padded to 50, an item's features are padded to
the largest count, the encoders run at every position of every row and again on the targets (pre-training) or on the
whole table (fine-tuning), experts are modules of their own, and the transformer is RecBole's. Both modalities, dot
product, float32. Only what would make it wrong was left out: here padding rows have no part in the softmax of eq. 3,
and attention learns.

A step of 1,024 rows gathers 1,024 x 50 x 10 x 768 floats, 1.6 GB, for ten sentences an item, and takes 8.5 GB in all.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.model.layers import TransformerEncoder
from recbole.utils import InputType
from torch import Tensor, nn

MODALITIES = ("text", "image")


class PaddedEncoder(nn.Module):
    """Attention over an item's padded feature rows, then a mixture of experts (eq. 3-5).

    Args:
        features: all rows, one item after the other, ``[R, d]`` of any float dtype; and offsets int64
            ``[n_items + 1]``: item i owns ``values[offsets[i]:offsets[i + 1]]``.
        config: mapping with the keys of ``Packed.yaml``, ``Transformer.yaml`` and ``M2SE.yaml``.
    """

    rows: Tensor
    present: Tensor

    def __init__(self, features: tuple[Tensor, Tensor], config: Any) -> None:
        super().__init__()
        values, offsets = features
        counts = offsets.diff()
        present = torch.arange(int(counts.max())) < counts.unsqueeze(1)  # [n_items, r]
        rows = torch.zeros(*present.shape, values.size(1))  # [n_items, r, d]
        rows[present] = values.float()
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("present", present, persistent=False)
        d, size = values.size(1), config["hidden_size"]
        self.w1 = nn.Linear(d, config["attention_size"])
        self.w2 = nn.Linear(config["attention_size"], 1)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(d, size), nn.Dropout(config["encoder_dropout_prob"]), nn.LayerNorm(size))
            for _ in range(config["n_experts"])
        )
        self.gate = nn.Linear(d, config["n_experts"])
        self.missing = nn.Parameter(torch.zeros(size))

    def forward(self, item_ids: Tensor | None = None) -> Tensor:
        """z float ``[..., d0]`` of items int64 ``[...]``, or of all items ``[n_items, d0]``."""
        rows, present = self.rows, self.present
        if item_ids is not None:
            rows, present = rows[item_ids], present[item_ids]  # [..., r, d], [..., r]
        logits = self.w2(self.w1(rows)).squeeze(-1)  # [..., r]
        alpha = logits.masked_fill(~present, torch.finfo(logits.dtype).min).softmax(dim=-1)
        pooled = (alpha.unsqueeze(-2) @ rows).squeeze(-2)  # [..., d]
        outputs = torch.stack([expert(pooled) for expert in self.experts], dim=-2)  # [..., O, d0]
        gates = self.gate(pooled).softmax(dim=-1)  # [..., O]
        z = (gates.unsqueeze(-1) * outputs).sum(dim=-2)  # [..., d0]
        return torch.where(present.any(dim=-1, keepdim=True), z, self.missing)


class LiteralModel(SequentialRecommender):
    """The backbone M2SE (III-B) over padded prefixes.

    Args:
        config: RecBole config (or mapping) of MSM4SR or MSM4SRPretrain.
        dataset: has ``num(field)`` and ``item_features[modality] = (values, offsets)``.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.encoders = nn.ModuleDict({name: PaddedEncoder(dataset.item_features[name], config) for name in MODALITIES})
        size = config["hidden_size"]
        self.position_embedding = nn.Embedding(self.max_seq_length, size)
        self.norm = nn.LayerNorm(size, eps=config["layer_norm_eps"])
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])
        self.transformer = TransformerEncoder(
            n_layers=config["n_layers"],
            n_heads=config["n_heads"],
            hidden_size=size,
            inner_size=config["inner_size"],
            hidden_dropout_prob=config["hidden_dropout_prob"],
            attn_dropout_prob=config["attn_dropout_prob"],
            hidden_act="gelu",
            layer_norm_eps=config["layer_norm_eps"],
        )

    def last_state(self, embeddings: Tensor, item_seq: Tensor, item_length: Tensor) -> Tensor:
        """h, float ``[B, d0]``: the last row of H_L (III-B 4) for embeddings ``[B, L, d0]`` of ``item_seq``."""
        hidden = embeddings + self.position_embedding.weight  # [B, L, d0]
        hidden = self.dropout(self.norm(hidden))
        hidden = self.transformer(hidden, self.get_attention_mask(item_seq))[-1]
        return self.gather_indexes(hidden, item_length - 1)


class LiteralPretrain(LiteralModel):
    """Stage 1 (eq. 6-11); the arguments are those of ``LiteralModel``."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        size = config["hidden_size"]
        self.projections = nn.ModuleDict({name: nn.Linear(size, size) for name in MODALITIES})
        self.sequence_dropout, self.mixup_max = config["sequence_dropout"], config["mixup_max"]
        self.cmcl_weight, self.temperature = config["cmcl_weight"], config["temperature"]

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """NIP of text and image, then λ CMCL of text and image.

        Each is a mean over the rows whose target has the modality, CMCL over those whose target has both.
        """
        item_seq, length = drop_items(interaction[self.ITEM_SEQ], self.sequence_dropout)
        target = interaction[self.POS_ITEM_ID]
        text, image = (self.encoders[name](item_seq) for name in MODALITIES)  # [B, L, d0] each
        ratio = self.mixup_max * torch.rand(len(item_seq), 1, device=item_seq.device)  # p of every row
        swap = (torch.rand(item_seq.shape, device=item_seq.device) < ratio).unsqueeze(-1)  # [B, L, 1]
        h_text = self.last_state(torch.where(swap, image, text), item_seq, length)
        h_image = self.last_state(torch.where(swap, text, image), item_seq, length)
        encoders = {name: cast(PaddedEncoder, self.encoders[name]) for name in MODALITIES}
        has_content = {name: encoder.present[target].any(dim=1) for name, encoder in encoders.items()}  # [B] each
        both = has_content["text"] & has_content["image"]
        nip, cmcl = [], []
        for name, own, other in (("text", h_text, h_image), ("image", h_image, h_text)):
            direct, crossed = self.projections[name](own), self.projections[name](other)  # eq. 6
            z, has = self.encoders[name](target), has_content[name]  # [B, d0], [B]
            nip.append(next_item_prediction(direct[has], crossed[has], z[has], target[has], self.temperature))
            cmcl.append(self.cmcl_weight * cross_modality(direct[both], crossed[both], target[both], self.temperature))
        return (*nip, *cmcl)


class LiteralFinetune(LiteralModel):
    """Stage 2 (eq. 12-13); the arguments are those of ``LiteralModel``."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        if config["similarity"] != "dot":
            raise ValueError(f"the literal version scores by dot product, not by {config['similarity']}")
        self.item_embedding = nn.Embedding(self.n_items, config["hidden_size"], padding_idx=0)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, float ``[B, n_items]`` (the argument of eq. 12's softmax)."""
        item_seq, length = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        scores = torch.zeros((), device=item_seq.device)
        for encoder in self.encoders.values():
            state = self.last_state(encoder(item_seq) + self.item_embedding(item_seq), item_seq, length)  # [B, d0]
            scores = scores + state @ (encoder() + self.item_embedding.weight).T
        return scores

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Cross entropy over all items, a mean over the rows (eq. 13); item 0 is padding, not a candidate."""
        return F.cross_entropy(self.full_sort_predict(interaction)[:, 1:], interaction[self.POS_ITEM_ID] - 1)


def drop_items(item_seq: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Sequence random dropout (III-B 1); the first item stays, the kept ones move left.

    Returns:
        The shortened rows, int64 ``[B, L]``, and their lengths, int64 ``[B]``.
    """
    kept = (torch.rand(item_seq.shape, device=item_seq.device) >= ratio) & (item_seq != 0)
    kept[:, 0] = True
    order = (~kept).long().argsort(dim=1, stable=True)
    return (item_seq * kept).gather(1, order), kept.sum(dim=1)


def next_item_prediction(direct: Tensor, crossed: Tensor, z: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Eq. 7 (and 8): a mean over the rows; another row with the same target is not a negative."""
    f = _f(direct, z, temperature) + _f(crossed, z, temperature)  # [B, B]
    return -(f.diagonal() / (f * _candidates(target)).sum(dim=1)).log().mean()


def cross_modality(direct: Tensor, crossed: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Eq. 9 (and 10): a mean over the rows; another row with the same target is not a negative."""
    between = _f(direct, crossed, temperature)  # [B, B]
    positive, candidates = between.diagonal(), _candidates(target)
    others = candidates.clone().fill_diagonal_(False)
    loss = torch.zeros((), device=direct.device)
    for view, cross in ((direct, between), (crossed, between.T)):
        denominator = (cross * candidates).sum(dim=1) + (_f(view, view, temperature) * others).sum(dim=1)
        loss = loss - 0.5 * (positive / denominator).log().mean()
    return loss


def _f(s: Tensor, z: Tensor, temperature: float) -> Tensor:
    """exp(sim(s, z) / τ) of all pairs, ``[B, B]``."""
    return (F.normalize(s, dim=-1) @ F.normalize(z, dim=-1).T / temperature).exp()


def _candidates(target: Tensor) -> Tensor:
    return (target.unsqueeze(0) != target.unsqueeze(1)).fill_diagonal_(True)  # [B, B]
