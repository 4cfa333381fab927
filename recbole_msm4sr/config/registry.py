"""Models by name or class: what each reads, how it is trained and which model pre-trains it, declared in one place.

Names that are not ours are RecBole's own. Nothing here imports torch before a model's class is asked for.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import CodeType
from typing import Any

from recbole_msm4sr.config import schema
from recbole_msm4sr.config.stock import recbole_models, stock_schema
from recbole_msm4sr.config.types import Settings
from recbole_msm4sr.core.errors import UserError, shown


@dataclass(frozen=True)
class ModelSpec:
    """What the harness knows of a model.

    Attributes:
        name: the model's name, aliases resolved; of a user's class, its own.
        base: the known model that it is, or derives from; empty for a class that derives from none.
        module: where our model lives; ``None`` for RecBole's own.
        own_schema: settings of our model; ``None`` for RecBole's own.
        stage_keys: keys that this model reads under another name, as ``{RecBole's key: its key}``.
        first_stage: the model that pre-trains this one; S3Rec is its own.
        as_first: what S3Rec, which is one model for two stages, is told in its first; epochs are ``pretrain_epochs``.
        as_second: what it is told in its second.
        start_key: the setting that names a checkpoint to start from.
        given_class: the class that a user has given instead of a name.
    """

    name: str
    base: str = ""
    module: str | None = None
    own_schema: type[Settings] | None = None
    stage_keys: Mapping[str, str] = field(default_factory=dict)
    first_stage: str | None = None
    as_first: Mapping[str, Any] = field(default_factory=dict)
    as_second: Mapping[str, Any] = field(default_factory=dict)
    start_key: str | None = None
    given_class: type | None = None

    @property
    def is_first_stage(self) -> bool:
        """Whether the model is there to pre-train another."""
        return bool(self.stage_keys)

    @property
    def is_ours(self) -> bool:
        """Whether the model is of this package, or derives from one that is."""
        return self.own_schema is not None

    @property
    def is_packed(self) -> bool:
        """Whether the model trains on packed windows, as our sequential models do; our general ones do not."""
        return self.own_schema is not None and issubclass(self.own_schema, schema.Packed)

    @property
    def settings(self) -> type[Settings]:
        """The model's settings: types, defaults and descriptions."""
        if self.own_schema is not None:
            return self.own_schema
        return stock_schema(self.base, frozenset(self._keys_of_given_class()))

    @property
    def properties(self) -> tuple[str, ...]:
        """Our files under ``properties/model`` to read, in this order."""
        parents = reversed(self.own_schema.__mro__) if self.own_schema else ()
        return tuple(parent.__name__ for parent in parents if parent.__name__ in PROPERTIES_FILES)

    @property
    def model_class(self) -> Any:
        """The model's class."""
        if self.given_class is not None:
            return self.given_class
        if self.module is None:
            from recbole.utils import get_model

            return get_model(self.name)
        return getattr(importlib.import_module(self.module), self.name)

    @property
    def dataset_class(self) -> Any:
        """The class that loads the model's data."""
        from recbole.data import dataset as recbole_datasets
        from recbole.utils import ModelType

        from recbole_msm4sr.data.dataset import VectorisedSequentialDataset
        from recbole_msm4sr.data.multimodal_dataset import MultimodalDataset, MultimodalSequentialDataset

        if self.is_ours:
            return MultimodalSequentialDataset if self.is_packed else MultimodalDataset
        if hasattr(recbole_datasets, f"{self.base}Dataset"):
            return getattr(recbole_datasets, f"{self.base}Dataset")
        if self.model_class.type == ModelType.SEQUENTIAL:
            return VectorisedSequentialDataset
        return recbole_datasets.Dataset

    def _keys_of_given_class(self) -> set[str]:
        """Texts in the code of a user's class, among them the settings that it reads beside those of its base."""
        given = self.given_class.__mro__ if self.given_class else ()
        codes = [
            value.__code__
            for parent in given
            if not parent.__module__.startswith(("recbole.", "recbole_msm4sr.", "torch."))
            for value in vars(parent).values()
            if hasattr(value, "__code__")
        ]
        return {text for code in codes for text in _texts(code) if text.isidentifier() and not text.startswith("_")}


def _texts(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from _texts(constant)


#: Settings mix-ins and models that have a file of defaults under ``properties/model``.
PROPERTIES_FILES = frozenset(
    {
        "Packed", "Transformer", "M2SE", "ItemSoftmax", "MSM4SRPretrain", "MSM4SR", "SASRecM", "UniSRecPretrain",
        "UniSRec", "DIFSR", "MVRNN", "General", "GRCN", "DualGNN", "CLCRec",
    }
)  # fmt: skip
_PRETRAIN_KEYS = {
    "epochs": "pretrain_epochs",
    "learning_rate": "pretrain_learning_rate",
    "train_batch_size": "pretrain_batch_size",
    "weight_decay": "pretrain_weight_decay",
    "eval_step": "pretrain_eval_step",
    "stopping_step": "pretrain_stopping_step",
}


def _ours(name: str, module: str, own_schema: type[Settings], **more: Any) -> ModelSpec:
    return ModelSpec(name, name, f"recbole_msm4sr.model.{module}", own_schema, **more)


_OURS = {
    spec.name: spec
    for spec in (
        _ours("MSM4SRPretrain", "msm4sr", schema.MSM4SRPretrain, stage_keys=_PRETRAIN_KEYS),
        _ours("MSM4SR", "msm4sr", schema.MSM4SR, first_stage="MSM4SRPretrain", start_key="pretrained_path"),
        _ours("SASRecM", "baselines.sasrecm", schema.SASRecM),
        _ours("UniSRecPretrain", "baselines.unisrec", schema.UniSRecPretrain, stage_keys=_PRETRAIN_KEYS),
        _ours("UniSRec", "baselines.unisrec", schema.UniSRec, first_stage="UniSRecPretrain",
              start_key="pretrained_path"),
        _ours("DIFSR", "baselines.difsr", schema.DIFSR),
        _ours("MVRNN", "baselines.mvrnn", schema.MVRNN),
        _ours("GRCN", "baselines.grcn", schema.GRCN),
        _ours("DualGNN", "baselines.dualgnn", schema.DualGNN),
        _ours("CLCRec", "baselines.clcrec", schema.CLCRec),
    )
}  # fmt: skip
_S3REC = ModelSpec(
    "S3Rec",
    "S3Rec",
    first_stage="S3Rec",
    as_first={"train_stage": "pretrain", "eval_step": 0},
    as_second={"train_stage": "finetune"},
    start_key="pre_model_path",
)
#: Of RecBole's other models that read a checkpoint.
_START_KEYS = {
    "ConvNCF": "pre_model_path",
    "RaCT": "pre_model_path",
}
_ALIASES = {"MP4SR": "MSM4SR", "MP4SRPretrain": "MSM4SRPretrain", "DIF-SR": "DIFSR", "MV-RNN": "MVRNN"}


def find(model: str | type) -> ModelSpec:
    """Look a model up by its name, or by its class: RecBole's, ours, or one of the user's that derives from RecBole's.

    Raises:
        UserError: no such model here or in RecBole; the message names the nearest ones.
    """
    if isinstance(model, type):
        return _find_class(model)
    if not isinstance(model, str):
        raise UserError(f"a model is given by its name or its class; this is {shown(model)}")
    name = _ALIASES.get(model, model)
    if name in _OURS:
        return _OURS[name]
    if name in recbole_models():
        return _S3REC if name == _S3REC.name else ModelSpec(name, name, start_key=_START_KEYS.get(name))
    known = sorted({*_OURS, *_ALIASES, *recbole_models()})
    by_lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower()[:100], by_lower, n=3)
    hint = f"did you mean {', '.join(by_lower[match] for match in near)}?" if near else f"ours are {', '.join(_OURS)}"
    raise UserError(f"there is no model {shown(name)}: {hint}")


def _find_class(model: type) -> ModelSpec:
    for parent in model.__mro__:
        is_known = parent.__module__.startswith(("recbole.model.", "recbole_msm4sr.model."))
        if is_known and parent.__name__ in {*_OURS, *recbole_models()}:
            spec = find(parent.__name__)
            return spec if parent is model else replace(spec, name=model.__name__, given_class=model)
    from recbole.model.abstract_recommender import AbstractRecommender

    if not issubclass(model, AbstractRecommender) or not hasattr(model, "type"):
        raise UserError(f"{model.__name__} is not a model: derive it from RecBole's SequentialRecommender or another")
    return ModelSpec(model.__name__, given_class=model)


def our_models() -> tuple[str, ...]:
    """Names of the models of this package, without aliases."""
    return tuple(_OURS)
