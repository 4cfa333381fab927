"""The training loop of our general models: RecBole's, resumable, with less waste between its steps."""

from __future__ import annotations

from typing import Any

import torch

from recbole_msm4sr.core.allocator import keep_freed_memory
from recbole_msm4sr.training.optimizers import fused
from recbole_msm4sr.training.stage_trainer import StageTrainer


class GeneralTrainer(StageTrainer):
    """``StageTrainer`` for a ``MultimodalGeneralRecommender``: every step makes and drops vectors of all users."""

    def __init__(self, config: Any, model: torch.nn.Module) -> None:
        super().__init__(config, model)
        keep_freed_memory()

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """RecBole's optimiser; Adam and AdamW update all weights in one kernel."""
        return fused(super()._build_optimizer(**kwargs))
