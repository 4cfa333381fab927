"""Model names: which class, which properties files, which data set class and which stages belong to each.

Names that are not ours are RecBole's own.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import recbole
from recbole.utils import ModelType, get_model

from recbole_msm4sr.core.errors import UserError


@dataclass(frozen=True)
class ModelSpec:
    """What the harness knows of a model.

    Attributes:
        name: the model's name, aliases resolved.
        module: where our model lives; ``None`` for RecBole's own.
        properties: our files under ``properties/model/`` to read, in this order.
        stage_keys: keys that this model reads under another name, as ``{RecBole's key: its key}``.
        first_stage: the model that pre-trains this one.
    """

    name: str
    module: str | None = None
    properties: tuple[str, ...] = ()
    stage_keys: dict[str, str] = field(default_factory=dict)
    first_stage: str | None = None

    @property
    def is_first_stage(self) -> bool:
        """Whether the model is there to pre-train another."""
        return bool(self.stage_keys)

    @property
    def is_ours(self) -> bool:
        """Whether the model is of this package."""
        return self.module is not None

    @property
    def is_packed(self) -> bool:
        """Whether the model trains on packed windows, as our sequential models do; our general ones do not."""
        return self.is_ours and self.model_class.type == ModelType.SEQUENTIAL

    @property
    def model_class(self) -> Any:
        """The model's class."""
        if self.module is None:
            return get_model(self.name)
        return getattr(importlib.import_module(self.module), self.name)

    @property
    def dataset_class(self) -> Any:
        """The class that loads the model's data."""
        from recbole.data import dataset as recbole_datasets

        from recbole_msm4sr.data.dataset import VectorisedSequentialDataset
        from recbole_msm4sr.data.multimodal_dataset import MultimodalDataset, MultimodalSequentialDataset

        if self.is_ours:
            return MultimodalSequentialDataset if self.is_packed else MultimodalDataset
        if hasattr(recbole_datasets, f"{self.name}Dataset"):
            return getattr(recbole_datasets, f"{self.name}Dataset")
        if self.model_class.type == ModelType.SEQUENTIAL:
            return VectorisedSequentialDataset
        return recbole_datasets.Dataset


_PRETRAIN_KEYS = {
    "epochs": "pretrain_epochs",
    "learning_rate": "pretrain_learning_rate",
    "train_batch_size": "pretrain_batch_size",
    "weight_decay": "pretrain_weight_decay",
    "eval_step": "pretrain_eval_step",
    "stopping_step": "pretrain_stopping_step",
}

_OURS = {
    spec.name: spec
    for spec in (
        ModelSpec(
            "MSM4SRPretrain",
            "recbole_msm4sr.model.msm4sr",
            properties=("Packed", "Transformer", "M2SE", "MSM4SRPretrain"),
            stage_keys=_PRETRAIN_KEYS,
        ),
        ModelSpec(
            "MSM4SR",
            "recbole_msm4sr.model.msm4sr",
            properties=("Packed", "Transformer", "M2SE", "ItemSoftmax", "MSM4SRPretrain", "MSM4SR"),
            first_stage="MSM4SRPretrain",
        ),
        ModelSpec(
            "SASRecM",
            "recbole_msm4sr.model.baselines.sasrecm",
            properties=("Packed", "Transformer", "M2SE", "ItemSoftmax", "SASRecM"),
        ),
        ModelSpec(
            "UniSRecPretrain",
            "recbole_msm4sr.model.baselines.unisrec",
            properties=("Packed", "Transformer", "UniSRecPretrain"),
            stage_keys=_PRETRAIN_KEYS,
        ),
        ModelSpec(
            "UniSRec",
            "recbole_msm4sr.model.baselines.unisrec",
            properties=("Packed", "Transformer", "ItemSoftmax", "UniSRecPretrain", "UniSRec"),
            first_stage="UniSRecPretrain",
        ),
        ModelSpec(
            "DIFSR",
            "recbole_msm4sr.model.baselines.difsr",
            properties=("Packed", "Transformer", "ItemSoftmax", "DIFSR"),
        ),
        ModelSpec("MVRNN", "recbole_msm4sr.model.baselines.mvrnn", properties=("Packed", "ItemSoftmax", "MVRNN")),
        ModelSpec("GRCN", "recbole_msm4sr.model.baselines.grcn", properties=("General", "GRCN")),
        ModelSpec("DualGNN", "recbole_msm4sr.model.baselines.dualgnn", properties=("General", "DualGNN")),
        ModelSpec("CLCRec", "recbole_msm4sr.model.baselines.clcrec", properties=("General", "CLCRec")),
    )
}
_ALIASES = {"MP4SR": "MSM4SR", "MP4SRPretrain": "MSM4SRPretrain", "DIF-SR": "DIFSR", "MV-RNN": "MVRNN"}


def find(name: str) -> ModelSpec:
    """Look a model name up.

    Raises:
        UserError: no such model here or in RecBole; the message names the nearest ones.
    """
    name = _ALIASES.get(name, name)
    if name in _OURS:
        return _OURS[name]
    if name in recbole_models():
        return ModelSpec(name)
    known = sorted({*_OURS, *_ALIASES, *recbole_models()})
    by_lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3)
    hint = f"did you mean {', '.join(by_lower[match] for match in near)}?" if near else f"ours are {', '.join(_OURS)}"
    raise UserError(f"there is no model {name!r}: {hint}")


def recbole_models() -> set[str]:
    """Names of RecBole's own models: those it has properties for."""
    return {path.stem for path in (Path(recbole.__file__).parent / "properties" / "model").glob("*.yaml")}


def our_models() -> tuple[str, ...]:
    """Names of the models of this package, without aliases."""
    return tuple(_OURS)
