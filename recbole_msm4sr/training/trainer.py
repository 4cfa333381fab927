"""Which trainer a model gets."""

from __future__ import annotations

from typing import Any

from recbole.trainer import Trainer
from recbole.utils import get_trainer

from recbole_msm4sr.training.general_trainer import GeneralTrainer
from recbole_msm4sr.training.packed_trainer import PackedTrainer
from recbole_msm4sr.training.safe_trainer import SafeCheckpoints
from recbole_msm4sr.training.stage_trainer import StageTrainer


def trainer_class(config: Any) -> type:
    """The trainer of a model: ours for our models, else RecBole's, with our epochs where its own are plain.

    S3Rec's trainer only chooses between two plain loops. Trainers with a loop of their own (RaCT, NCL) keep it, with
    safe checkpoints.
    """
    if config.spec.is_ours:
        return PackedTrainer if config.spec.is_packed else GeneralTrainer
    base = get_trainer(config["MODEL_TYPE"], config.spec.base)
    mixin = StageTrainer if base.fit is Trainer.fit or base.__name__ == "S3RecTrainer" else SafeCheckpoints
    return type(f"Safe{base.__name__}", (mixin, base), {})
