"""RecBole's Config with this package's models and properties, and with errors where RecBole is silent."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config as RecBoleConfig
from recbole.utils import ModelType

from recbole_msm4sr import compat
from recbole_msm4sr.config import harness, registry
from recbole_msm4sr.config.stock import recbole_models, recbole_properties, stock_schema
from recbole_msm4sr.config.types import checked_values, hint
from recbole_msm4sr.config.yaml_file import PROPERTIES, read_yaml
from recbole_msm4sr.core.distributed import own_gpu
from recbole_msm4sr.core.errors import UserError, shown
from recbole_msm4sr.core.precision import default_precision

#: What is not given as a setting, and how it is given instead.
_NOT_SETTINGS = {
    "model": "it is an argument of its own",
    "dataset": "it is an argument of its own",
    "config_files": "they are an argument of their own",
    "device": "choose it by use_gpu and gpu_id",
}
_DEEPEST = 20  # levels of lists and mappings; a setting has three


class Config(RecBoleConfig):
    """Settings of one model on one data set.

    Later sources win: RecBole's properties, ours (overall, model, dataset), ``config_file_list``, ``config_dict``.
    ``sys.argv`` is never read; command lines are parsed by ``recbole_msm4sr.cli``.

    Args:
        model: a name or a class that ``registry.find`` knows.
        dataset: name of the data set.
        config_file_list: YAML files; keys of other models are allowed in them, so that models can share a file.
        config_dict: settings; every key must be one that the model reads.
        drop_unread: leave keys out that the model does not read, instead of refusing them. For a stage of a recipe,
            which is handed the settings of the whole.

    Attributes:
        spec: what the registry knows of the model.
        resolved: every setting that the model reads, defaults included, before RecBole derives others from them;
            given back as a file, it makes the same run.

    Raises:
        UserError: unknown model, key or file, or a value that is out of range.
    """

    spec: registry.ModelSpec
    resolved: dict[str, Any]

    def __init__(
        self,
        model: str | type,
        dataset: str,
        config_file_list: Sequence[str] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        *,
        drop_unread: bool = False,
    ) -> None:
        compat.apply()
        self.spec = registry.find(model)
        self._drop_unread = drop_unread
        kind = self.spec.model_class.type
        if kind not in (ModelType.GENERAL, ModelType.SEQUENTIAL, ModelType.TRADITIONAL):
            raise UserError(
                f"{self.spec.name} is one of RecBole's {kind.name.lower()} models; "
                "only general and sequential ones rank items in this harness"
            )
        if not isinstance(dataset, str) or not dataset.isprintable() or dataset in ("", ".", "..") or "/" in dataset:
            raise UserError(f"dataset must be the name of a folder in data_path; it is {shown(dataset)}")
        super().__init__(self.spec.model_class, dataset, list(config_file_list or []), dict(config_dict or {}))

    # -- RecBole's construction steps, in its order ----------------------------------------------------------------
    def _build_yaml_loader(self) -> None:
        return None  # RecBole's would change yaml.FullLoader for the whole process

    def _load_config_files(self, file_list: Iterable[str] | None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for path in file_list or []:
            merged.update(read_yaml(path))
        return merged

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        return {key: _plain(key, value) for key, value in config_dict.items()}  # RecBole evaluates strings here

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}

    def _load_internal_config_dict(self, model: str, model_class: Any, dataset: str) -> None:
        settings: dict[str, Any] = {}
        of_data = ["dataset/ml-100k"] if dataset == "ml-100k" else []  # RecBole comes with it
        for name in ("overall", f"model/{self.spec.base}", "dataset/sample", *of_data):
            settings.update(recbole_properties(name))
        if model_class.type == ModelType.SEQUENTIAL:
            settings.update(recbole_properties(f"quick_start_config/{_quick_start(self.spec.base)}"))
        settings["MODEL_TYPE"] = model_class.type
        for name in ("overall", *(f"model/{name}" for name in self.spec.properties)):
            settings.update(_properties(name))
        if (PROPERTIES / "dataset" / f"{dataset}.yaml").is_file():
            read = self._keys_read()
            settings.update({key: value for key, value in _properties(f"dataset/{dataset}").items() if key in read})
        self.internal_config_dict = copy.deepcopy(settings)
        self._refuse_unread_keys()

    def _set_default_parameters(self) -> None:
        final = self.final_config_dict
        if isinstance(final["eval_args"], dict):  # a part of eval_args does not undo the rest
            final["eval_args"] = {**self.internal_config_dict["eval_args"], **final["eval_args"]}
        read = [key for key in self.spec.settings.model_fields if key in final]
        final.update(checked_values(self.spec.settings, {key: final[key] for key in read}))
        self._refuse_what_has_no_effect()
        self._rename_keys_of_stage()
        self._complete_defaults()
        self.resolved = copy.deepcopy({key: final[key] for key in read})
        if self.spec.as_second and "train_stage" not in self.external_config_dict:
            del self.resolved["train_stage"]  # RecBole's default is one stage, ours are both
        root = Path(final["data_path"])
        super()._set_default_parameters()
        folder = root / self.dataset
        if (folder / f"{self.dataset}.inter").is_file() or not Path(final["data_path"]).is_dir():
            final["data_path"] = str(folder)  # RecBole always takes ml-100k from its own package
        if final["feature_path"] is None:
            final["feature_path"] = str(folder / "features")

    def _init_device(self) -> None:
        final = self.final_config_dict
        final["gpu_id"] = own_gpu(final["gpu_id"])
        super()._init_device()
        if not final["use_gpu"]:
            final["device"] = torch.device("cpu")
        if "precision" in final and final["precision"] is None:
            final["precision"] = self.resolved["precision"] = default_precision(final["device"])

    @property
    def item_attributes(self) -> list[str]:
        """Columns of the .item file that the model asks for (S3Rec's item_attribute, FDSA's selected_features)."""
        final = self.final_config_dict
        names = [final.get("item_attribute"), *(final.get("selected_features") or [])]
        return [name for name in names if name]

    # -- defaults --------------------------------------------------------------------------------------------------
    def _rename_keys_of_stage(self) -> None:
        """A first stage reads its own keys under RecBole's names; on its own it takes RecBole's names, too."""
        final = self.final_config_dict
        for key, own_key in self.spec.stage_keys.items():
            if key in self.external_config_dict and own_key not in self.external_config_dict and not self._drop_unread:
                final[own_key] = final[key]
            final[key] = final[own_key]
        if self.spec.is_first_stage and final.get("pretrain_modalities"):
            final["modalities"] = final["pretrain_modalities"]
        elif self.spec.is_first_stage and "pretrain_modalities" in final:
            final["pretrain_modalities"] = final["modalities"]

    def _complete_defaults(self) -> None:
        """Fill in defaults that follow from other settings."""
        final, given = self.final_config_dict, self.external_config_dict
        if self.spec.is_packed and final["window_stride"] is None:
            final["window_stride"] = -(-final["MAX_ITEM_LIST_LENGTH"] // 2)
        is_sequential = final["MODEL_TYPE"] == ModelType.SEQUENTIAL
        ranks_all = is_sequential and final.get("loss_type") == "CE"  # which RecBole asks its users to say again
        if self.spec.is_packed or (ranks_all and "train_neg_sample_args" not in given):
            final["train_neg_sample_args"] = None
        if not {"load_col", "unload_col"} & set(given) and final["load_col"] is None:  # a user's None reads all columns
            final["load_col"] = self._columns_to_load()

    def _columns_to_load(self) -> dict[str, list[str]]:
        """The columns to read: user, item, time, and the model's item attributes."""
        final = self.final_config_dict
        columns = {"inter": [final["USER_ID_FIELD"], final["ITEM_ID_FIELD"], final["TIME_FIELD"]]}
        if self.item_attributes:
            columns["item"] = [final["ITEM_ID_FIELD"], *self.item_attributes]
        return columns

    # -- keys ------------------------------------------------------------------------------------------------------
    def _keys_read(self) -> set[str]:
        """Keys that may be given for this model."""
        return set(self.spec.settings.model_fields) | self._without_effect().keys()

    def _without_effect(self) -> dict[str, str]:
        """RecBole's settings that have no effect with this model: what to do instead."""
        every = {**harness.WITHOUT_EFFECT, **(harness.WITHOUT_EFFECT_ON_OURS if self.spec.is_ours else {})}
        others = harness.UNREAD_BY_PACKED if self.spec.is_packed else frozenset()
        read = self.spec.settings.model_fields
        return {key: instead for key, instead in every.items() if key not in read and key not in others}

    def _refuse_unread_keys(self) -> None:
        read = self._keys_read()
        if not self._drop_unread:
            for key in self.variable_config_dict:
                if key in _NOT_SETTINGS:
                    raise UserError(f"{key} is not a setting: {_NOT_SETTINGS[key]}")
            elsewhere = _keys_of_any_model()
            unread = [key for key in self.variable_config_dict if key not in read]
            named = ("model", "dataset")  # a run's own config.yaml names them, and is a file of settings
            unread += [key for key in self.file_config_dict if key not in {*read, *elsewhere, *named}]
            if unread:
                key = unread[0]
                of_others = f": other models read it, {self.spec.name} does not"
                meant = of_others if key in elsewhere else hint(key, read)
                raise UserError(f"unknown setting {shown(key)} for {self.spec.name}{meant}")
        for given in (self.file_config_dict, self.variable_config_dict):
            for key in set(given) - read:
                del given[key]
        self._merge_external_config_dict()

    def _refuse_what_has_no_effect(self) -> None:
        final, given = self.final_config_dict, self.external_config_dict
        for key, instead in self._without_effect().items():
            if key in given and given[key] != self.internal_config_dict.get(key):
                raise UserError(f"{key} has no effect: {instead}")
        is_sequential = final["MODEL_TYPE"] == ModelType.SEQUENTIAL
        if is_sequential and not final["repeatable"]:
            raise UserError("repeatable must be true for a sequential model, which may recommend an item again")
        if is_sequential and final["eval_args"]["order"] != "TO":
            raise UserError("eval_args.order must be TO for a sequential model: histories are in the order of time")
        if not is_sequential and final["repeatable"] and final["eval_args"]["mode"] == "full":
            raise UserError("repeatable has no effect: items that a user has had are never ranked for a general model")
        if is_sequential and final.get("loss_type") == "CE" and given.get("train_neg_sample_args") is not None:
            raise UserError("train_neg_sample_args must be nothing with loss_type: CE, which compares all items")
        if final["log_wandb"] and find_spec("wandb") is None:
            raise UserError("log_wandb needs the package wandb, which is not installed: pip install wandb")
        if not final["log_wandb"] and given.get("wandb_project", "recbole") != "recbole":
            raise UserError("wandb_project has no effect without log_wandb: true")


def _plain(key: object, value: Any, depth: int = 0) -> Any:
    """A copy in which tuples are lists and numpy's numbers Python's, as a file would hold them."""
    if depth > _DEEPEST:
        raise UserError(f"the value of {shown(key)} is nested deeper than {_DEEPEST} levels")
    if isinstance(value, dict):
        return {inner: _plain(key, part, depth + 1) for inner, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(key, part, depth + 1) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def _quick_start(model: str) -> str:
    """Which of RecBole's files for sequential models it reads for this one."""
    if model in ("DIN", "DIEN"):
        return "sequential_DIN"
    return "sequential_embedding_model" if model in ("GRU4RecKG", "KSR") else "sequential"


@functools.cache
def _keys_of_any_model() -> frozenset[str]:
    """Every key that some model of RecBole's or ours reads."""
    schemas = [registry.find(name).settings for name in registry.our_models()]
    schemas += [stock_schema(name) for name in recbole_models()]
    return frozenset(key for schema in schemas for key in schema.model_fields) | harness.UNREAD_BY_PACKED


@functools.lru_cache(maxsize=64)
def _read_once(path: Path, state: tuple[int, int]) -> dict[str, Any]:
    return read_yaml(path)


def _properties(name: str) -> dict[str, Any]:
    """One of our files of properties, parsed again only after it has changed."""
    path = PROPERTIES / f"{name}.yaml"
    stat = path.stat()
    return _read_once(path, (stat.st_mtime_ns, stat.st_size))
