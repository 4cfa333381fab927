"""RecBole's Config with this package's models and properties, and with errors where RecBole shrugs."""

from __future__ import annotations

import copy
import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import recbole
import torch
from recbole.config import Config as RecBoleConfig
from recbole.utils import ModelType

from recbole_msm4sr import compat
from recbole_msm4sr.config import registry
from recbole_msm4sr.config import schema as settings
from recbole_msm4sr.config.yaml_file import PROPERTIES, read_yaml
from recbole_msm4sr.core.distributed import own_gpu
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.precision import default_precision

_RECBOLE_PROPERTIES = Path(recbole.__file__).parent / "properties"

#: Keys that RecBole reads but has no default for.
_KEYS_WITHOUT_DEFAULT = frozenset({"model", "dataset", "config_files", "device", "encoding"})
#: What is not given as a setting, and how it is given instead.
_NOT_SETTINGS = {
    "model": "it is an argument of its own",
    "dataset": "it is an argument of its own",
    "config_files": "they are an argument of their own",
    "device": "choose it by use_gpu and gpu_id",
}
#: Keys of RecBole's loaders and losses, which packed training does not have.
_UNREAD_BY_PACKED = frozenset({"require_pow", "shuffle", "train_neg_sample_args", "transform"})


class Config(RecBoleConfig):
    """Settings of one model on one data set.

    Later sources win: RecBole's properties, ours (overall, model, dataset), ``config_file_list``, ``config_dict``.
    ``sys.argv`` is never read; command lines are parsed by ``recbole_msm4sr.cli``.

    Args:
        model: a name that ``registry.find`` knows.
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

    def __init__(
        self,
        model: str,
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
        try:
            super().__init__(self.spec.model_class, dataset, list(config_file_list or []), dict(config_dict or {}))
        except UserError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
            raise UserError(f"configuration of {self.spec.name}: {' '.join(str(error).split())}") from error

    # -- RecBole's construction steps, in its order ----------------------------------------------------------------
    def _load_config_files(self, file_list: Iterable[str] | None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for path in file_list or []:
            merged.update(read_yaml(path))
        return merged

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        return config_dict  # RecBole evaluates strings here

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}

    def _load_internal_config_dict(self, model: str, model_class: Any, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        self.internal_config_dict.update(read_yaml(PROPERTIES / "overall.yaml"))
        for name in self.spec.properties:
            self.internal_config_dict.update(read_yaml(PROPERTIES / "model" / f"{name}.yaml"))
        read = self._keys_read()
        own = PROPERTIES / "dataset" / f"{dataset}.yaml"
        if own.is_file():
            self.internal_config_dict.update({key: value for key, value in read_yaml(own).items() if key in read})
        self._check_keys(read)

    def _set_default_parameters(self) -> None:
        final = self.final_config_dict
        for key, own_key in self.spec.stage_keys.items():
            if key in self.external_config_dict and own_key not in self.external_config_dict and not self._drop_unread:
                final[own_key] = final[key]  # the stage on its own: RecBole's name will do
            final[key] = final[own_key]
        if self.spec.name == "MSM4SRPretrain":
            final["modalities"] = final["pretrain_modalities"] = final["pretrain_modalities"] or final["modalities"]
        if "window_stride" in final and final["window_stride"] is None:
            final["window_stride"] = -(-final["MAX_ITEM_LIST_LENGTH"] // 2)
        settings.check(final, is_ours=self.spec.is_ours)
        is_sequential = final["MODEL_TYPE"] == ModelType.SEQUENTIAL
        ranks_all = is_sequential and final.get("loss_type") == "CE"  # which RecBole asks its users to say again
        if self.spec.is_packed or (ranks_all and "train_neg_sample_args" not in self.external_config_dict):
            final["train_neg_sample_args"] = None
        if "load_col" not in self.external_config_dict and final["load_col"] is None:  # a user's None reads all columns
            final["load_col"] = self._columns_to_load()
        if isinstance(final["eval_args"], dict):  # a part of eval_args does not undo the rest
            known = self.internal_config_dict["eval_args"]
            for key in final["eval_args"]:
                if key not in known:
                    raise UserError(f"unknown setting {key!r} in eval_args{_hint(key, known)}")
            final["eval_args"] = {**known, **final["eval_args"]}
        read = self._keys_read()
        if self.spec.name == "S3Rec" and "train_stage" not in self.external_config_dict:
            read.discard("train_stage")  # RecBole's default is one stage, ours are both
        self.resolved = copy.deepcopy({key: value for key, value in final.items() if key in read})
        root = Path(final["data_path"])
        super()._set_default_parameters()
        computed = [f"{metric}@{k}" for metric in final["metrics"] for k in final["topk"]]
        if final["valid_metric"].lower() not in [name.lower() for name in computed]:
            raise UserError(
                f"valid_metric must be one of the metrics at one of topk ({', '.join(computed)}); "
                f"it is {final['valid_metric']!r}"
            )
        folder = root / self.dataset
        if (folder / f"{self.dataset}.inter").is_file() or not Path(final["data_path"]).is_dir():
            final["data_path"] = str(folder)  # RecBole always takes ml-100k from its own package
        if final["feature_path"] is None:
            final["feature_path"] = str(folder / "features")

    def _init_device(self) -> None:
        self.final_config_dict["gpu_id"] = own_gpu(self.final_config_dict["gpu_id"])
        super()._init_device()
        final = self.final_config_dict
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

    # -- keys ------------------------------------------------------------------------------------------------------
    def _keys_read(self) -> set[str]:
        """Keys that this model, or RecBole's general machinery, reads."""
        arguments = {key for keys in self.parameters.values() for key in keys}
        read = set(self.internal_config_dict) - {"MODEL_TYPE"} | arguments | _KEYS_WITHOUT_DEFAULT
        if self.spec.is_packed:
            read -= _UNREAD_BY_PACKED
        if not self.spec.is_ours:  # some of RecBole's models have settings without a default
            source = inspect.getsource(sys.modules[self.spec.model_class.__module__])
            read |= {"reg_weight", *re.findall(r"config\[[\"'](\w+)[\"']\]", source)}
        return read

    def _check_keys(self, read: set[str]) -> None:
        if self._drop_unread:
            self._drop_keys_not_in(read)
            return
        for key in self.variable_config_dict:
            if key in _NOT_SETTINGS:
                raise UserError(f"{key} is not a setting: {_NOT_SETTINGS[key]}")
        unread = [key for key in self.variable_config_dict if key not in read]
        elsewhere = _keys_of_any_model()
        unread += [key for key in self.file_config_dict if key not in read and key not in elsewhere]
        if unread:
            key = unread[0]
            of_others = f": other models read it, {self.spec.name} does not"
            hint = of_others if key in elsewhere else _hint(key, read)
            raise UserError(f"unknown setting {key!r} for {self.spec.name}{hint}")
        self._drop_keys_not_in(read)

    def _drop_keys_not_in(self, read: set[str]) -> None:
        for given in (self.file_config_dict, self.variable_config_dict):
            for key in set(given) - read:
                del given[key]
        self._merge_external_config_dict()

    def _columns_to_load(self) -> dict[str, list[str]]:
        """The columns to read: user, item, time, and the model's item attributes."""
        final = self.final_config_dict
        columns = {"inter": [final["USER_ID_FIELD"], final["ITEM_ID_FIELD"], final["TIME_FIELD"]]}
        if self.item_attributes:
            columns["item"] = [final["ITEM_ID_FIELD"], *self.item_attributes]
        return columns


def _hint(key: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown key, as the end of a message."""
    near = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near else ""


def _keys_of_any_model() -> set[str]:
    """Every key in RecBole's and our properties."""
    files = [*_RECBOLE_PROPERTIES.glob("model/*.yaml"), *PROPERTIES.glob("model/*.yaml")]
    return {key for path in files for key in read_yaml(path)} | _UNREAD_BY_PACKED
