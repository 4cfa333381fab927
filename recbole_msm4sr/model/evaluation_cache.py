"""Tensors that an evaluation computes from a model's weights once, and not for every batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class EvaluationCache(nn.Module):
    """Mix-in of models that score with tensors of their own making, ``_kept(make)``.

    In evaluation mode, without gradients, they are made at their first use and kept until the model trains again,
    changes mode, moves or loads weights.
    """

    _kept_tensors: tuple[Tensor, ...] | None = None

    def _kept(self, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What ``make`` returns; the same tensors for further calls in one evaluation."""
        if self._kept_tensors is not None:
            return self._kept_tensors
        tensors = make()
        if not self.training and not torch.is_grad_enabled():
            self._kept_tensors = tensors
        return tensors

    def train(self, mode: bool = True) -> Self:
        self._kept_tensors = None
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        self._kept_tensors = None  # .to(), .cuda(), .double()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._kept_tensors = None
        super()._load_from_state_dict(*args, **kwargs)
