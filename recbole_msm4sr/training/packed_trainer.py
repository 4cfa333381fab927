"""Training of our sequential models: packed batches, several processes, no wait for the device within an epoch."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_msm4sr.core.allocator import keep_freed_memory
from recbole_msm4sr.core.distributed import rank, world_size
from recbole_msm4sr.core.gather import sum_over_ranks, synchronise
from recbole_msm4sr.core.precision import runs_in_bf16
from recbole_msm4sr.model.base import PackedSequentialRecommender
from recbole_msm4sr.training.optimizers import DenseAndSparse, fused, parameter_groups, sparse_embeddings
from recbole_msm4sr.training.stage_trainer import StageTrainer

#: Losses are looked at, which waits for the device, once in so many steps.
_STEPS_BETWEEN_CHECKS = 100


class PackedTrainer(StageTrainer):
    """``StageTrainer`` for a ``PackedSequentialRecommender``.

    Under torchrun every process trains on its share of each batch and gradients are averaged; with the losses being
    means over the rows of all processes, that is the gradient of the whole batch.
    """

    def __init__(self, config: Any, model: PackedSequentialRecommender) -> None:
        super().__init__(config, model)
        keep_freed_memory()
        bf16 = config["precision"] == "bf16"
        if bf16 and not runs_in_bf16(model, self.device):
            getLogger().warning(f"{config['model']} computes in float32: this CPU runs no recurrent layer in bfloat16")
            bf16 = False
        self.batch_losses: nn.Module = BatchLosses(model, bf16=bf16)
        if world_size() > 1:
            synchronise(model)
            # All processes have loaded the buffers, the features, themselves: they are not sent around.
            self.batch_losses = DistributedDataParallel(
                self.batch_losses, forward_sync_buffers=False, init_sync=False, gradient_as_bucket_view=True
            )

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """RecBole's optimiser; Adam and AdamW update all weights in one kernel, sparse embeddings have their own."""
        of_ids = {key: self.config[f"id_{key}"] for key in ("learning_rate", "weight_decay")}
        learning_rate = self.learning_rate if of_ids["learning_rate"] is None else of_ids["learning_rate"]
        weight_decay = self.weight_decay if of_ids["weight_decay"] is None else of_ids["weight_decay"]
        groups = parameter_groups(self.model, id_learning_rate=learning_rate, id_weight_decay=weight_decay)
        optimizer = fused(super()._build_optimizer(params=groups, **kwargs))
        embeddings = sparse_embeddings(self.model)
        return DenseAndSparse(optimizer, embeddings, learning_rate) if embeddings else optimizer

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> tuple[float, ...]:
        """Train one epoch; returns the sums of every loss over the batches (RecBole's signature).

        Raises:
            DivergedError: a loss is NaN or infinite.
        """
        self.model.train()
        if world_size() > 1:
            torch.manual_seed(seed_of(self.config["seed"], epoch_idx, rank()))
        total = torch.zeros(len(self.model.loss_names), dtype=torch.float64, device=self.device)
        batches = tqdm(train_data, desc=f"Train {epoch_idx:>5}", ncols=100, disable=not show_progress)
        for step, batch in enumerate(batches, start=1):
            losses = self.batch_losses(to_device(batch, self.device))
            self.optimizer.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()
            if self.clip_grad_norm:
                clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
            self.optimizer.step()
            total += torch.stack(losses).detach()
            if step % _STEPS_BETWEEN_CHECKS == 0:
                self._check_nan(sum_over_ranks(total).sum())
        total = sum_over_ranks(total) / world_size()
        self._check_nan(total.sum())
        return tuple(total.tolist())


class BatchLosses(nn.Module):
    """``model.calculate_loss`` as a module, which is what DistributedDataParallel wraps.

    Args:
        model: float32; its losses see to their own precision.
        bf16: compute matrix products in bfloat16.
    """

    def __init__(self, model: PackedSequentialRecommender, *, bf16: bool) -> None:
        super().__init__()
        self.model: PackedSequentialRecommender = model
        self.bf16 = bf16

    def forward(self, batch: Interaction) -> tuple[Tensor, ...]:
        """Losses of a batch, scalars, by the names of ``model.loss_names``."""
        device_type: str = self.model.device.type
        with torch.autocast(device_type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.model.calculate_loss(batch)


def to_device(batch: Interaction, device: torch.device) -> Interaction:
    """A batch on the device; the copy to a GPU runs beside the computation."""
    if device.type != "cuda":
        return batch.to(device)
    return Interaction(
        {name: values.pin_memory().to(device, non_blocking=True) for name, values in batch.interaction.items()}
    )


def seed_of(seed: int, epoch: int, process: int) -> int:
    """A seed of its own for every epoch of every process: their dropout masks differ, and a resumed epoch's do not."""
    return int(np.random.SeedSequence([seed, epoch, process]).generate_state(1, np.uint64)[0])
