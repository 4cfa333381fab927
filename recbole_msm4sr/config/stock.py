"""Settings of RecBole's own models: the keys of its properties, typed by name and default."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from recbole_msm4sr.config import types as t
from recbole_msm4sr.config.harness import WITHOUT_EFFECT, Loaders
from recbole_msm4sr.config.types import knob
from recbole_msm4sr.config.yaml_file import read_yaml

_PACKAGE = find_spec("recbole")
if _PACKAGE is None or _PACKAGE.origin is None:
    raise ModuleNotFoundError("recbole is not installed", name="recbole")
#: RecBole's own files of settings, found without importing RecBole, which takes seconds.
RECBOLE_PROPERTIES = Path(_PACKAGE.origin).parent / "properties"

#: Settings that a model of RecBole's reads and the properties of models lack.
_READ_BESIDE: dict[str, dict[str, Any]] = {
    "DMF": {"RATING_FIELD": t.Name},
    "DiffRec": {"norm": bool},
    "FEARec": {
        "contrast": Literal["us", "un", "su", "us_x"],
        "sim": Literal["cos", "dot"],
        "tau": t.Positive,
        "use_filter": bool,
    },
    "HRM": {"reg_weight": t.NonNegative},
    "KSR": {"ENTITY_ID_FIELD": t.Name, "RELATION_ID_FIELD": t.Name},
    "LightGCN": {"require_pow": bool},
    "SimpleX": {"require_pow": bool},
}
_Choice = Literal["replace", "add", "half"]
_Activation = Literal["gelu", "relu", "swish", "tanh", "sigmoid"]
#: Settings whose type does not follow from their default.
_BY_NAME: dict[str, Any] = {
    "accum": Literal["stack", "sum"],
    "algorithm": Literal["prod", "concat"],
    "ae_act_func": _Activation,
    "dnn_type": Literal["trm", "ave"],
    "fredom_type": Literal["None", "us", "un", "su", "us_x"] | None,
    "context_norm": Literal[0, 1],
    "gru_type": Literal["GRU", "AIGRU", "AGRU", "AUGRU"],
    "hid_activation": Literal["sigmoid", "relu", "tanh"],
    "hidden_act": _Activation,
    "inter_matrix_type": Literal["01", "rating"],
    "knn_method": Literal["item", "user"],
    "mean_type": Literal["x0", "eps"],
    "mlp_act_func": _Activation,
    "n_facet_MLP": Annotated[int, Field(ge=-1, le=0), "-1 or 0"],
    "n_facet_emb": Literal[0, 2],
    "n_facet_window": Annotated[int, Field(ge=-64, le=0), "a whole number in [-64, 0]"],
    "neigh_info_method": Literal["random", "knn", "louvain"],
    "noise_schedule": Literal["linear", "linear-var", "cosine", "binomial"],
    "out_activation": Literal["sigmoid", "relu"],
    "partition_merging_mode": _Choice,
    "pooling_mode": Literal["mean", "max", "sum"],
    "pooling_type": Literal["average", "max"],
    "pooling_type_layer_1": Literal["max", "average"],
    "pooling_type_layer_2": Literal["max", "average"],
    "pre_model_path": t.PathOrEmpty,
    "post_remove_context": Literal[0, 1],
    "reranker_merging_mode": _Choice,
    "train_method": Literal["no_pretrain", "after_pretrain"],
    "type": Literal["ED", "ND", "RW"],
    "weight": t.Share,
    "weight_mode": Literal["", "dynamic", "static", "max_logits"],
    "embedding_size": t.Size,
    "hidden_size": t.Size,
    "inner_size": t.Width,
    "k": Annotated[int, Field(ge=1, le=100_000)],
    "k_interests": t.Few,
    "layer_norm_eps": t.Positive,
    "n_heads": t.Few,
    "order": Literal[1, 2],
    "pretrain_epochs": t.Epochs,
    "q": t.CountOrZero,
    "topk_factor": t.Positive,
    "use_proj_bias": Literal[0, 1],
    "w_max": t.Positive,
    "total_anneal_steps": t.Count,
}
_OF_MODEL: dict[str, dict[str, Any]] = {
    "CDAE": {"loss_type": Literal["BCE", "MSE"]},
    "CORE": {"loss_type": Literal["CE"]},
    "FPMC": {"loss_type": Literal["BPR"]},
    "RaCT": {"train_stage": Literal["actor_pretrain", "critic_pretrain", "finetune"]},
    "S3Rec": {"train_stage": Literal["pretrain", "finetune"]},
    "SINE": {"loss_type": Literal["BPR", "CE", "NLL"]},
    "SimpleX": {"aggregator": Literal["mean", "user_attention", "self_attention"]},
}
_TEMPERATURES = ("temperature", "tau", "ssl_temp", "ssl_tau", "std", "resolution")
_SHARES = ("mask_ratio", "drop_ratio", "ft_ratio", "corruption_ratio", "l1_ratio", "global_ratio", "spatial_ratio")


class Stock(Loaders):
    """What all of RecBole's models read."""

    enable_amp: bool = knob(False, "compute in bfloat16")
    MAX_ITEM_LIST_LENGTH: Annotated[int, Field(ge=1, le=2000)] = knob(50, "input sequence, to which all are padded", 50)

    @model_validator(mode="after")
    def _heads(self) -> Self:
        heads = getattr(self, "n_heads", 1)
        key = "hidden_size" if hasattr(self, "hidden_size") else "embedding_size"
        size = getattr(self, key, 0)
        if size % heads:
            raise ValueError(f"{key} ({size}) must be a multiple of n_heads ({heads})")
        return self

    @model_validator(mode="after")
    def _masks(self) -> Self:
        ratio = getattr(self, "mask_ratio", 1)
        if hasattr(self, "ft_ratio") and int(ratio * self.MAX_ITEM_LIST_LENGTH) < 1:  # BERT4Rec
            raise ValueError(
                f"mask_ratio ({ratio}) of MAX_ITEM_LIST_LENGTH ({self.MAX_ITEM_LIST_LENGTH}) must be one item or more"
            )
        return self


@functools.cache
def recbole_models() -> frozenset[str]:
    """Names of RecBole's own models: those it has properties for."""
    return frozenset(path.stem for path in (RECBOLE_PROPERTIES / "model").glob("*.yaml"))


@functools.cache
def recbole_properties(name: str) -> Mapping[str, Any]:
    """One file of RecBole's properties, ``model/SASRec``; empty if there is none."""
    path = RECBOLE_PROPERTIES / f"{name}.yaml"
    return read_yaml(path) if path.is_file() else {}


@functools.cache
def stock_schema(model: str, more: frozenset[str] = frozenset()) -> type[Stock]:
    """The settings of one of RecBole's models.

    Args:
        model: its name; or none that RecBole knows, for a model of the user's that has no settings yet.
        more: settings that a model of the user's reads beside them, of any plain type.
    """
    fields: dict[str, Any] = {}
    defaults = recbole_properties(f"model/{model}")
    for key, default in defaults.items():
        if key not in WITHOUT_EFFECT:
            fields[key] = (_type(model, key, default), knob(default, "see RecBole's documentation of the model"))
    for key, kind in _READ_BESIDE.get(model, {}).items():
        fields[key] = (kind | None, knob(None, "see RecBole's documentation of the model"))
    for key in more - set(fields) - set(Stock.model_fields):
        fields[key] = (Any, knob(None, "read by the model"))
    return create_model(f"{model}Settings", __base__=Stock, **fields)


def _type(model: str, key: str, default: Any) -> Any:
    own = {**_BY_NAME, "loss_type": Literal["CE", "BPR"], **_OF_MODEL.get(model, {})}
    if key in own and not isinstance(default, list):
        return own[key]
    if isinstance(default, bool):
        return bool
    if default is None or isinstance(default, str):
        return t.Text | None if default in (None, "") else t.Text
    if isinstance(default, list):
        return _list_type(key, default)
    return _number_type(key, default)


def _list_type(key: str, default: list[Any]) -> Any:
    kinds = {_number_type(key, value) if isinstance(value, (int, float)) else t.Name for value in default} or {t.Size}
    if len(kinds) > 1:  # cnn_channels: all of them are whole numbers
        kinds = {t.Width}
    [kind] = kinds
    if kind is t.Name:
        return t.Names
    fixed = None if any(part in key for part in ("size", "dims", "layers", "dilations")) else len(default)
    length = f"{fixed} numbers" if fixed else "numbers"
    return Annotated[
        list[kind],  # type: ignore[valid-type]
        Field(min_length=fixed or min(1, len(default)), max_length=fixed or 1024),
        f"a list of {length}, such as {default}",
    ]


def _number_type(key: str, default: float) -> Any:
    if "dropout" in key or key in ("node_dropout", "drop_ex", "drop_im"):
        return t.Probability
    if key in _SHARES:
        return t.Share
    if key in _TEMPERATURES:
        return t.Positive
    if key == "initializer_range":
        return t.Positive
    if isinstance(default, float) or ("weight" in key and "size" not in key) or "reg" in key:
        return t.Number if key == "margin" else t.NonNegative  # SimpleX's is of cosines, down to -1
    if "layer" in key or key in ("block_num", "step", "n_iterations", "n_hops"):
        return t.Layers
    if "size" in key or "dim" in key or "hidden" in key:
        return t.Width
    return t.Small if default else t.SmallOrZero
