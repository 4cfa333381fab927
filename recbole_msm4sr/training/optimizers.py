"""Optimisers of our models: fused Adam, and a lazy one for embeddings with sparse gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class DenseAndSparse:
    """Two optimisers as one: ``dense`` for most weights, ``SparseAdam`` for embeddings with sparse gradients.

    SparseAdam updates the rows that a step has touched, and their moments, alone (lazy Adam), so a step costs nothing
    for the other millions. It has no weight decay.

    Args:
        dense: optimiser of the other weights.
        embeddings: weights whose gradients are sparse.
        learning_rate: of the embeddings.
    """

    def __init__(self, dense: torch.optim.Optimizer, embeddings: Iterable[Tensor], learning_rate: float) -> None:
        self.dense = dense
        self.sparse = torch.optim.SparseAdam(list(embeddings), lr=learning_rate)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear all gradients."""
        self.dense.zero_grad(set_to_none)
        self.sparse.zero_grad(set_to_none)

    def step(self) -> None:
        """Update all weights."""
        self.dense.step()
        self.sparse.step()

    def state_dict(self) -> dict[str, Any]:
        """Both states."""
        return {"dense": self.dense.state_dict(), "sparse": self.sparse.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a ``state_dict``."""
        self.dense.load_state_dict(state["dense"])
        self.sparse.load_state_dict(state["sparse"])


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """A new Adam or AdamW that updates all weights in one kernel, with the same settings; others as they are."""
    for kind in (torch.optim.Adam, torch.optim.AdamW):
        if type(optimizer) is kind:
            given = ("lr", "weight_decay")
            groups = [{name: group[name] for name in ("params", *given)} for group in optimizer.param_groups]
            return kind(groups, **{name: optimizer.defaults[name] for name in given}, fused=True)
    return optimizer


def parameter_groups(model: nn.Module, *, id_learning_rate: float, id_weight_decay: float) -> list[dict[str, Any]]:
    """A model's weights as an optimiser's groups: those of IDs with settings of their own, and the rest.

    Embeddings with sparse gradients are left out; they have an optimiser of their own.

    Args:
        model: item IDs, if it has any, are its ``item_embedding``.
        id_learning_rate: of the IDs.
        id_weight_decay: of the IDs.
    """
    embedding = getattr(model, "item_embedding", None)
    ids = [] if embedding is None or embedding.sparse else [embedding.weight]
    apart = {id(weight) for weight in (*ids, *sparse_embeddings(model))}
    groups: list[dict[str, Any]] = [{"params": [weight for weight in model.parameters() if id(weight) not in apart]}]
    if ids:
        groups.append({"params": ids, "lr": id_learning_rate, "weight_decay": id_weight_decay})
    return groups


def sparse_embeddings(model: nn.Module) -> list[Tensor]:
    """Weights of the embeddings whose gradients are sparse."""
    return [m.weight for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse]
