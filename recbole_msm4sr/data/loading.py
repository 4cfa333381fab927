"""From a configuration to data: read once, split once, loaders for every stage."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.data.utils import create_samplers, get_dataloader
from recbole.utils import ModelType

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import sha256_of_file
from recbole_msm4sr.data.checks import check_parts, interaction_files, samples_negatives
from recbole_msm4sr.data.dataloader import PackedDataLoader
from recbole_msm4sr.data.dataset import SequenceInteraction, all_interactions
from recbole_msm4sr.data.negatives import FixedNegatives


@dataclass(frozen=True)
class Data:
    """A data set and its split.

    Attributes:
        dataset: the whole, as the model's data set class loads it.
        parts: its train, valid and test parts.
        evaluated: what of the valid and test parts is evaluated; with ``eval_target_below`` the rows of rare targets.
        fingerprint: hashes. ``interactions``: of the atomic files; one of every modality used; and of what the filters
            leave, ``users_and_targets``, the evaluated pairs of tokens, and ``items``, the tokens of all items. Figures
            of two runs are comparable where the last two agree.
    """

    dataset: Any
    parts: tuple[Any, Any, Any]
    evaluated: tuple[Any, Any]
    fingerprint: dict[str, str]

    @property
    def notes(self) -> list[str]:
        """What was left out or put in another order than RecBole's, a line each."""
        return getattr(self.dataset, "notes", [])

    def training_counts(self) -> NDArray[np.int64]:
        """Training interactions of every item id, those that are only inputs included; int64 ``[n_items]``."""
        _, valid, test = self.parts
        field, n_items = self.dataset.iid_field, self.dataset.item_num
        whole, *held_out = (
            np.bincount(rows[field].numpy(), minlength=n_items)
            for rows in (all_interactions(self.dataset), valid.inter_feat, test.inter_feat)
        )
        return whole - sum(held_out)


def load(config: Any) -> Data:
    """Read and split the data set of ``config``.

    RecBole's own ``create_dataset`` and ``data_preparation`` are not used: they unpickle what lies in checkpoint_dir.

    Raises:
        UserError: the data set is not there, cannot be read or split as asked, or its features do not fit.
    """
    files = interaction_files(config)
    with ThreadPoolExecutor(1) as beside:  # hashing leaves the interpreter to the reading
        content_hash = beside.submit(_hash_files, config, files)
        dataset, (train, valid, test) = _read_and_split(config)
    fingerprint = {"interactions": content_hash.result(), **getattr(dataset, "feature_fingerprints", {})}
    data = Data(dataset, (train, valid, test), (valid, test), fingerprint)
    below = config["eval_target_below"]
    if below is not None:
        data = replace(data, evaluated=_of_rare_targets(data, below))
    fingerprint.update(_hash_evaluated(data))
    return data


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


def _read_and_split(config: Any) -> tuple[Any, list[Any]]:
    folder = Path(config["data_path"])
    try:
        dataset = config.spec.dataset_class(config)
        for attribute in config.item_attributes:
            if attribute not in dataset.field2type:
                where = folder / f"{config['dataset']}.item"
                hidden = ", and let load_col load it" if "load_col" in config.external_config_dict else ""
                raise UserError(
                    f"{config['model']} needs the item attribute {attribute!r}: add the column to {where}{hidden}"
                )
        parts = dataset.build()
    except UserError:
        raise
    except (ValueError, KeyError, IndexError, NotImplementedError) as error:  # RecBole's own refusals
        raise UserError(f"data set {folder}: {' '.join(str(error).split())}") from error
    check_parts(config, dataset, parts)
    return dataset, parts


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
        train_loader = _loader_class(config, "train")(config, train, train_sampler, shuffle=config["shuffle"])
    return (
        train_loader,
        _loader_class(config, "valid")(config, valid, valid_sampler, shuffle=False),
        _loader_class(config, "test")(config, test, test_sampler, shuffle=False),
    )


def _loader_class(config: Any, phase: str) -> Any:
    """RecBole goes by the model's name: for a user's class, by that of the model that it derives from."""
    return get_dataloader({**config.final_config_dict, "model": config.spec.base}, phase)


def _samplers(config: Any, data: Data) -> list[Any]:
    """Samplers of negatives for train, valid and test: RecBole's, ours for sampled evaluation, or none."""
    if not samples_negatives(config):
        return [None, None, None]
    samplers = list(create_samplers(config, data.dataset, list(data.parts)))
    for place, phase in ((1, "valid"), (2, "test")):
        if config["eval_args"]["mode"][phase] != "full":
            samplers[place] = _fixed_negatives(config, data, phase)
    return samplers


def _fixed_negatives(config: Any, data: Data, phase: str) -> FixedNegatives:
    weight = np.bincount(_column(data.dataset, data.dataset.iid_field), minlength=data.dataset.item_num) * 1.0
    if config[f"{phase}_neg_sample_args"]["distribution"] == "uniform":
        weight[:] = 1
    weight[0] = 0  # padding
    users, items = _known(data, phase)
    # Where users may come back to what they know, their targets alone are never negatives. RecBole sets this for all
    # sequential models, and for no other, when it is not given.
    if config.external_config_dict.get("repeatable"):
        users, items = users[:0], items[:0]
    return FixedNegatives(phase, config["seed"], users, items, weight, data.dataset.user_num)


def _known(data: Data, phase: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """User and item of all interactions that an evaluation knows of: in validation not those of the test part."""
    users, items = (_column(data.dataset, field) for field in (data.dataset.uid_field, data.dataset.iid_field))
    rows = data.parts[2].inter_feat
    if phase == "test":
        return users, items
    if isinstance(rows, SequenceInteraction):
        is_known = np.ones(len(users), dtype=bool)
        is_known[rows.next_position.numpy()] = False
        return users[is_known], items[is_known]
    train, valid = data.parts[:2]
    return (
        np.concatenate([_column(part, data.dataset.uid_field) for part in (train, valid)]),
        np.concatenate([_column(part, data.dataset.iid_field) for part in (train, valid)]),
    )


def _column(dataset: Any, field: str) -> NDArray[np.int64]:
    return all_interactions(dataset)[field].numpy()


def _hash_files(config: Any, interactions: list[Path]) -> str:
    """Of the bytes of the atomic files, with their names' endings."""
    folder, name = Path(config["data_path"]), config["dataset"]
    digest = hashlib.sha256()
    for path in [*interactions, folder / f"{name}.user", folder / f"{name}.item"]:
        if path.is_file():
            digest.update(f"{path.name.removeprefix(f'{name}.')} {sha256_of_file(path)}\n".encode())
    return digest.hexdigest()


def _hash_evaluated(data: Data) -> dict[str, str]:
    """Of what a table's rows must share, whatever order it comes in: evaluated pairs of tokens, and all items."""
    user_of, item_of = (
        _hash_tokens(data.dataset.field2id_token[field]) for field in (data.dataset.uid_field, data.dataset.iid_field)
    )
    pairs = hashlib.sha256()
    for part in data.evaluated:
        users, items = (part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field))
        pairs.update(np.sort(_mixed(user_of[users], item_of[items])).tobytes())
    return {"users_and_targets": pairs.hexdigest(), "items": hashlib.sha256(np.sort(item_of[1:]).tobytes()).hexdigest()}


def _hash_tokens(tokens: NDArray[np.str_]) -> NDArray[np.uint64]:
    """A number for every token, from its characters alone; uint64 ``[tokens]``."""
    characters = np.ascontiguousarray(tokens).view(np.uint32).reshape(len(tokens), -1)
    key = np.zeros(len(tokens), dtype=np.uint64)
    for column in characters.T:
        key = np.where(column > 0, _mixed(key, column), key)  # zeros fill up shorter tokens
    return key


def _mixed(key: NDArray[np.uint64], value: NDArray) -> NDArray[np.uint64]:
    key = (key ^ value) * np.uint64(0x9E3779B97F4A7C15)  # an odd number, so that no bit is lost
    return key ^ (key >> np.uint64(29))
