"""The pre-training objective over packed sequences (eq. 6-11)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_msm4sr.core.gather import gather_rows
from recbole_msm4sr.model.blocks.augmentation import is_first_of_its_representation, sequence_dropout
from recbole_msm4sr.model.losses import cmcl_loss, nip_loss
from recbole_msm4sr.model.m2se import M2SE


class PretrainObjective(nn.Module):
    """Maps mix-modality states to the modality spaces (eq. 6) and sums NIP and λ CMCL there (eq. 11).

    With one modality there is no crossed sequence: NIP compares the only one, and CMCL does not apply.

    Args:
        modalities: the backbone's modalities, one linear map each.
        config: a RecBole config (or mapping) with ``hidden_size`` and the keys of MSM4SRPretrain.yaml.
    """

    def __init__(self, modalities: tuple[str, ...], config: Any) -> None:
        super().__init__()
        size = config["hidden_size"]
        self.projections = nn.ModuleDict({name: nn.Linear(size, size) for name in modalities})
        self.sequence_dropout = config["sequence_dropout"]
        self.mixup_max = config["mixup_max"] if config["use_mixup"] else 0.0
        self.cmcl_weight = config["cmcl_weight"]
        self.temperature = config["temperature"]
        self.use_nip = config["use_nip"]
        self.use_cmcl = config["use_cmcl"] and len(modalities) == 2
        if not (self.use_nip or self.use_cmcl):
            raise ValueError("pre-training needs use_nip, or use_cmcl with two modalities")

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of what ``forward`` returns, in its order."""
        kinds = ["nip"] * self.use_nip + ["cmcl"] * self.use_cmcl
        return tuple(f"{kind}_{name}" for kind in kinds for name in self.projections)

    def project(self, states: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """m̂ and m̃ of every modality (eq. 6), each float ``[..., d0]``, from states float ``[M, ..., d0]``.

        m̂ maps the stream of the modality itself, m̃ the complementary stream; with one modality they are the same.
        """
        return {
            name: (projection(states[stream]), projection(states[-1 - stream]))
            for stream, (name, projection) in enumerate(self.projections.items())
        }

    def forward(self, backbone: M2SE, item_seq: Tensor, target: Tensor, item_length: Tensor) -> tuple[Tensor, ...]:
        """Losses of a packed batch.

        Args:
            backbone: encodes each distinct item of the batch once.
            item_seq: int64 ``[U, L]``, left-aligned, 0 where padded.
            target: the next item at every position, 0 where there is none to predict; int64 ``[U, L]``.
            item_length: int64 ``[U]``.

        Returns:
            Scalars in the order of ``loss_names``, λ included; their sum is eq. 11. NIP is a mean over the pairs whose
            target has the modality, CMCL one over the sequence representations whose target has all modalities.
            Targets of equal content are not each other's negatives in NIP.
        """
        inputs, last_kept = sequence_dropout(item_seq, item_length, self.sequence_dropout)
        row, time = target.nonzero(as_tuple=True)  # [P] each: the (sequence, next item) pairs
        item_ids = target[row, time]  # [P]
        distinct, index = torch.unique(torch.cat([inputs.flatten(), item_ids]), return_inverse=True)
        table = backbone.encode_items(distinct)  # [M, n, d0]
        index_seq, target_index = index[: inputs.numel()].view_as(inputs), index[inputs.numel() :]
        ratio = self.mixup_max * torch.rand(len(inputs), 1, device=inputs.device)  # p of every sequence, [U, 1]
        states = backbone(table, index_seq, ratio * (inputs != 0))  # [M, U, L', d0]
        column = last_kept[row, time]  # [P]
        states = states[:, row, column]  # [M, P, d0]
        spaces = self.project(states)
        content = backbone.content_ids(item_ids).T  # [P, M], -1 where a target lacks the modality
        losses = []
        if self.use_nip:
            embeddings = table[:, target_index].transpose(0, 1)  # [P, M, d0]
            contents, candidates = gather_rows(content, embeddings)  # [C, M], [C, M, d0]
            losses += [
                nip_loss(direct, crossed, z, own, self.temperature, has_content=own >= 0)
                for (direct, crossed), z, own in zip(
                    spaces.values(), candidates.unbind(1), contents.unbind(1), strict=True
                )
            ]
        if self.use_cmcl:
            # a representation that several pairs share is not a negative of itself
            (anchors,) = is_first_of_its_representation(row, column).nonzero(as_tuple=True)  # [R]
            views = torch.stack([view[anchors] for pair in spaces.values() for view in pair], dim=1)  # [R, 2M, d0]
            has_all = (content[anchors] >= 0).all(dim=1)  # [R]
            candidate_ids, has_all, views = gather_rows(item_ids[anchors], has_all, views)  # [C], [C], [C, 2M, d0]
            directs, crosseds = views.unflatten(1, (-1, 2)).unbind(2)  # [C, M, d0] each
            losses += [
                self.cmcl_weight
                * cmcl_loss(direct, crossed, candidate_ids, self.temperature, len(anchors), has_content=has_all)
                for direct, crossed in zip(directs.unbind(1), crosseds.unbind(1), strict=True)
            ]
        return tuple(losses)
