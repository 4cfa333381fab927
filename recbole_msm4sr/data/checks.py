"""Checks that a data set can be trained and tested on; errors of one line, before either begins."""

from __future__ import annotations

import subprocess
import sys
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from recbole.data.dataset import SequentialDataset
from recbole.utils import ModelType

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.columns import check_columns
from recbole_msm4sr.data.dataset import VectorisedSequentialDataset, all_interactions
from recbole_msm4sr.data.processing import file_format
from recbole_msm4sr.data.reader import read_header

#: Settings that RecBole does not read where the split is given by files.
_UNREAD_WITH_SPLIT_FILES = (
    "filter_inter_by_user_or_item", "item_inter_num_interval", "rm_dup_inter", "user_inter_num_interval",
    "val_interval",
)  # fmt: skip


def interaction_files(config: Any) -> list[Path]:
    """The data set's files of interactions: one, or those of ``benchmark_filename``.

    Raises:
        UserError: they are missing, lack a column, or do not allow what the settings ask for.
    """
    folder, dataset = Path(config["data_path"]), config["dataset"]
    names = config["benchmark_filename"]
    if names is None:
        _make_demo(config, folder)
        files = [folder / f"{dataset}.inter"]
    else:
        _check_split_settings(config)
        files = [folder / f"{dataset}.{name}.inter" for name in names]
    for file in files:
        if not file.is_file():
            raise UserError(f"there is no data set {file}: set data_path to the folder that holds {dataset}/")
    user, item, time = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], config["TIME_FIELD"]
    form = file_format(config)
    headers = [read_header(file, {user: "token", item: "token", time: "float"}, form) for file in files]
    if any(header != headers[0] for header in headers):
        raise UserError(f"the files {', '.join(file.name for file in files)} differ in their first lines")
    if names is not None and f"{item}{config['LIST_SUFFIX']}" in headers[0]:
        raise UserError(f"{files[0]} holds sequences: give one interaction a line, without lists")
    check_columns(config, headers[0], form)
    return files


def _make_demo(config: Any, folder: Path) -> None:
    """Generate the demo data set on first use."""
    if config["dataset"] != "demo" or (folder / "demo.inter").is_file():
        return
    getLogger().info(f"generating the demo data set in {folder} (python -m dataset_prep demo)")
    made = subprocess.run([sys.executable, "-m", "dataset_prep", "demo", "--out", str(folder)], check=False)
    if made.returncode != 0 and not (folder / "demo.inter").is_file():  # another process may have made it meanwhile
        raise UserError(f"the demo data set could not be generated in {folder}; see the message above")


def _check_split_settings(config: Any) -> None:
    """Refuse settings that have no effect where files give the split, and models that cannot read it."""
    if len(set(config["benchmark_filename"])) != 3:
        raise UserError(f"benchmark_filename must be three different names; it is {config['benchmark_filename']}")
    given = config.external_config_dict
    for key in _UNREAD_WITH_SPLIT_FILES:
        if given.get(key) is not None:
            raise UserError(f"{key} has no effect on the files of benchmark_filename: filter them, or leave it out")
    if "split" in (given.get("eval_args") or {}):
        raise UserError("benchmark_filename gives the split: leave split out of eval_args")
    kind = config.spec.dataset_class
    if issubclass(kind, SequentialDataset) and not issubclass(kind, VectorisedSequentialDataset):
        raise UserError(f"{config['model']} cannot train on the files of benchmark_filename: give one file, NAME.inter")


def samples_negatives(config: Any) -> bool:
    """Whether training or evaluation asks what a user has not interacted with.

    Sequential models that rank all items do not need the set that RecBole would make for every user.
    """
    ranks_all = set(config["eval_args"]["mode"].values()) == {"full"}
    trains_on_all = config["train_neg_sample_args"]["distribution"] == "none"
    return config["MODEL_TYPE"] != ModelType.SEQUENTIAL or not (ranks_all and trains_on_all)


def check_parts(config: Any, dataset: Any, parts: list[Any]) -> None:
    """Refuse data on which RecBole would fail, or never come to an end, after or during training.

    Raises:
        UserError: a part of the split is empty, there are fewer items than ``topk`` asks for, or a user
            who leaves no item for a negative.
    """
    where = f"data set {config['data_path']}"
    for place, name in ((1, "validation"), (2, "test"), (0, "training")):
        if len(parts[place]) == 0:
            raise UserError(
                f"{where}: the {name} part is empty: users need four interactions, "
                "and eval_args must hold out both validation and test"
            )
    n_items = dataset.item_num - 1  # without padding
    if max(config["topk"]) > n_items:
        raise UserError(f"{where} has {n_items} items: topk cannot ask for the best {max(config['topk'])}")
    draws_in_model = config["transform"] == "mask_itemseq" or config.spec.base == "S3Rec"
    if not (samples_negatives(config) or draws_in_model):
        return
    rows = all_interactions(dataset)
    users, items = rows[dataset.uid_field].numpy(), rows[dataset.iid_field].numpy()
    for user in np.flatnonzero(np.bincount(users) >= n_items).tolist():
        if len(np.unique(items[users == user])) == n_items:
            name = dataset.field2id_token[dataset.uid_field][user]
            raise UserError(
                f"{where}: user {str(name)!r} has interacted with all {n_items} items, and negatives are drawn from "
                f'others: leave such users out (user_inter_num_interval: "[0,{n_items})")'
            )
