"""From a configuration to data: read once, split once, loaders for every stage."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.data.utils import create_samplers, get_dataloader
from recbole.utils import ModelType

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import sha256_of_file
from recbole_msm4sr.data.atomic_file import read_header
from recbole_msm4sr.data.dataloader import PackedDataLoader
from recbole_msm4sr.data.dataset import SequenceInteraction


@dataclass(frozen=True)
class Data:
    """A data set and its split.

    Attributes:
        dataset: the whole, as the model's data set class loads it.
        parts: its train, valid and test parts.
        evaluated: what of the valid and test parts is evaluated; with ``eval_target_below`` the rows of rare targets.
        fingerprint: ``interactions``, the hash of the atomic files, and one entry for every modality used.
    """

    dataset: Any
    parts: tuple[Any, Any, Any]
    evaluated: tuple[Any, Any]
    fingerprint: dict[str, str]

    def training_counts(self) -> NDArray[np.int64]:
        """Training interactions of every item id, those that are only inputs included; int64 ``[n_items]``."""
        _, valid, test = self.parts
        every = getattr(self.dataset.inter_feat, "flat", self.dataset.inter_feat)  # sequences: of prefixes
        field, n_items = self.dataset.iid_field, self.dataset.item_num
        whole, *held_out = (
            np.bincount(rows[field].numpy(), minlength=n_items) for rows in (every, valid.inter_feat, test.inter_feat)
        )
        return whole - sum(held_out)


def load(config: Any) -> Data:
    """Read and split the data set of ``config``.

    RecBole's own ``create_dataset`` and ``data_preparation`` are not used: they unpickle what lies in checkpoint_dir.

    Raises:
        UserError: the data set is not there, lacks a column, or its features do not fit.
    """
    folder = Path(config["data_path"])
    _require_files(config, folder)
    with ThreadPoolExecutor(1) as beside:  # hashing leaves the interpreter to the reading
        content_hash = beside.submit(_hash_atomic_files, config, folder)
        dataset, (train, valid, test) = _read_and_split(config, folder)
    for name, part in (("validation", valid), ("test", test)):
        if len(part) == 0:
            raise UserError(
                f"data set {folder}: the {name} part is empty: users need four interactions, "
                "and eval_args must hold out both validation and test"
            )
    fingerprint = {"interactions": content_hash.result(), **getattr(dataset, "feature_fingerprints", {})}
    data = Data(dataset, (train, valid, test), (valid, test), fingerprint)
    below = config["eval_target_below"]
    return data if below is None else replace(data, evaluated=_of_rare_targets(data, below))


def _of_rare_targets(data: Data, below: int) -> tuple[Any, Any]:
    """The rows of the valid and test parts whose target has fewer than ``below`` training interactions."""
    counts = data.training_counts()
    parts = []
    for name, part in zip(("validation", "test"), data.parts[1:], strict=True):
        rows = part.inter_feat
        (rare,) = np.nonzero(counts[rows[part.iid_field].numpy()] < below)
        if not len(rare):
            raise UserError(
                f"eval_target_below is {below}, and no target of the {name} part has fewer training interactions: "
                "there are no cold items to evaluate"
            )
        parts.append(part.copy(rows.take(rare) if isinstance(rows, SequenceInteraction) else rows[rare]))
    valid, test = parts
    return valid, test


def _read_and_split(config: Any, folder: Path) -> tuple[Any, tuple[Any, Any, Any]]:
    try:
        dataset = config.spec.dataset_class(config)
        for attribute in config.item_attributes:
            if attribute not in dataset.field2type:
                where = folder / f"{config['dataset']}.item"
                hidden = ", and let load_col load it" if "load_col" in config.external_config_dict else ""
                raise UserError(
                    f"{config['model']} needs the item attribute {attribute!r}: add the column to {where}{hidden}"
                )
        return dataset, tuple(dataset.build())
    except UserError:
        raise
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UserError(f"data set {folder}: {' '.join(str(error).split())}") from error


def loaders(config: Any, data: Data) -> tuple[Any, Any, Any]:
    """Train, valid and test loaders: packed for our sequential models, RecBole's own for the rest."""
    train, (valid, test) = data.parts[0], data.evaluated
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL and "eval_batch_size" not in config.external_config_dict:
        # For other models RecBole counts scores, not users: its default is one user a batch on a large catalogue.
        config["eval_batch_size"] = max(config["eval_batch_size"], 256 * data.dataset.item_num)
    train_sampler, valid_sampler, test_sampler = _samplers(config, data)
    if config.spec.is_packed:
        train_loader = PackedDataLoader(config, train)
    else:
        train_loader = get_dataloader(config, "train")(config, train, train_sampler, shuffle=config["shuffle"])
    return (
        train_loader,
        get_dataloader(config, "valid")(config, valid, valid_sampler, shuffle=False),
        get_dataloader(config, "test")(config, test, test_sampler, shuffle=False),
    )


def _samplers(config: Any, data: Data) -> Sequence[Any]:
    """RecBole's samplers of negatives for train, valid and test; none where nothing is sampled.

    Ranking all items, sequential models have no use for the set that RecBole would make for every user.
    """
    ranks_all = all(config["eval_args"]["mode"][phase] == "full" for phase in ("valid", "test"))
    samples_none = config["train_neg_sample_args"]["distribution"] == "none"
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and ranks_all and samples_none:
        return None, None, None
    return create_samplers(config, data.dataset, list(data.parts))


def _require_files(config: Any, folder: Path) -> None:
    """Check that the data set is there before RecBole offers to download one; make ``demo`` on first use."""
    inter = folder / f"{config['dataset']}.inter"
    if not inter.is_file() and config["dataset"] == "demo":
        getLogger().info(f"generating the demo data set in {folder} (python -m dataset_prep demo)")
        made = subprocess.run([sys.executable, "-m", "dataset_prep", "demo", "--out", str(folder)], check=False)
        if made.returncode != 0:
            raise UserError(f"the demo data set could not be generated in {folder}; see the message above")
    if not inter.is_file():
        raise UserError(f"there is no data set {inter}: set data_path to the folder that holds {config['dataset']}/")
    user, item, time = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], config["TIME_FIELD"]
    _require_columns(config, inter, {user: "token", item: "token", time: "float"})
    items = folder / f"{config['dataset']}.item"
    columns = config["load_col"]  # None: all of them
    if items.is_file() and (columns is None or "item" in columns):
        _require_columns(config, items, {item: "token"})


def _require_columns(config: Any, path: Path, needed: Mapping[str, str]) -> None:
    """Check an atomic file's columns and their types; RecBole would sort tokens of time in the order they appear in."""
    header = read_header(path, config["field_separator"], config["encoding"])
    if header[0].startswith("\ufeff"):
        raise UserError(f"{path} starts with a byte order mark: save it without one, or set encoding to utf-8-sig")
    types = {field: kind for field, _, kind in (column.partition(":") for column in header)}
    for field, kind in needed.items():
        if field not in types:
            columns = ", ".join(f"{name}:{kind}" for name, kind in needed.items())
            raise UserError(
                f"{path} has no column {field!r} in its first line ({', '.join(header)}): it needs {columns}; other "
                "names are set by USER_ID_FIELD, ITEM_ID_FIELD and TIME_FIELD"
            )
        if types[field] != kind:
            found = f"is of the type {types[field]!r}" if types[field] else "has no type"
            raise UserError(f"{path}: {field} {found} in its first line: write {field}:{kind}")


def _hash_atomic_files(config: Any, folder: Path) -> str:
    digest = hashlib.sha256()
    for suffix in ("inter", "user", "item"):
        path = folder / f"{config['dataset']}.{suffix}"
        if path.is_file():
            digest.update(f"{suffix} {sha256_of_file(path)}\n".encode())
    return digest.hexdigest()
