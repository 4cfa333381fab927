"""What is compared: this package, the literal version and RecBole's SASRec, each with its own loaders and trainer.

They run in one process, so the references also get what ours sets for the whole process (the C allocator, and
``compat``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.utils import create_samplers, get_dataloader
from recbole.trainer import Trainer
from recbole.utils import init_seed

from benchmarks.literal import LiteralFinetune, LiteralPretrain
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.data import loading
from recbole_msm4sr.training.trainer import trainer_class

MODELS = {"pretrain": "MSM4SRPretrain", "finetune": "MSM4SR"}
_BATCH_SIZE = {"pretrain": "pretrain_batch_size", "finetune": "train_batch_size"}
_LITERAL = {"pretrain": LiteralPretrain, "finetune": LiteralFinetune}


@dataclass
class System:
    """A model that can be trained and evaluated.

    Attributes:
        config: its settings.
        parts: train, valid and test parts of its data.
        trainer: a RecBole trainer; ``trainer.model`` is the model.
        train_loader, valid_loader: of the same parts.
    """

    config: Any
    parts: tuple[Any, Any, Any]
    trainer: Any
    train_loader: Any
    valid_loader: Any

    def count_pairs(self) -> int:
        """(sequence, next item) pairs of the training part."""
        return len(self.parts[0])

    def count_users(self) -> int:
        """Users of the validation part."""
        return len(self.parts[1])

    def train(self, steps: int, epoch: int) -> int:
        """Train on the first batches of an epoch; returns the pairs in them."""
        if hasattr(self.train_loader, "set_epoch"):
            self.train_loader.set_epoch(epoch)
        batches = FirstBatches(self.train_loader, steps)
        self.trainer._train_epoch(batches, epoch)
        return batches.n_pairs

    def train_epoch(self, epoch: int) -> None:
        """Train on the whole of an epoch."""
        self.train(len(self.train_loader), epoch)

    def evaluate(self) -> dict[str, float]:
        """Rank all items for the users of the validation part; returns RecBole's metrics, ``recall@20`` and so on."""
        return dict(self.trainer.evaluate(self.valid_loader, load_best_model=False))


class FirstBatches:
    """The first batches of a loader; for everything else the loader itself.

    Attributes:
        n_pairs: (sequence, next item) pairs handed out.
    """

    def __init__(self, loader: Any, n_batches: int) -> None:
        self.loader, self.n_batches, self.n_pairs = loader, n_batches, 0

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Any]:
        for batch in islice(self.loader, self.n_batches):
            self.n_pairs += int((batch["target"] != 0).sum()) if "target" in batch else len(batch)
            yield batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def ours(stage: str, data_path: Path, dataset: str, batch_size: int = 1024, **settings: Any) -> System:
    """This package, through its public interface.

    Args:
        stage: pretrain or finetune.
        data_path: folder of data sets.
        dataset: name of the data set.
        batch_size: (sequence, next item) pairs of a step.
        settings: of the configuration.
    """
    config = _config(MODELS[stage], data_path, dataset, {_BATCH_SIZE[stage]: batch_size, **settings})
    data = loading.load(config)
    train_loader, valid_loader, _ = loading.loaders(config, data)
    init_seed(config["seed"], config["reproducibility"])
    model = config.spec.model_class(config, data.parts[0]).to(config["device"])
    return System(config, data.parts, trainer_class(config)(config, model), train_loader, valid_loader)


def literal(
    stage: str,
    data_path: Path,
    dataset: str,
    batch_size: int = 1024,
    n_valid_users: int | None = None,
    **settings: Any,
) -> System:
    """The paper written down plainly, fed with RecBole's prefix rows by RecBole's loaders and trainer.

    Args:
        stage, data_path, dataset, settings: as in ``ours``.
        batch_size: rows of a step.
        n_valid_users: users to evaluate, the first so many; ``None``: all.
    """
    config = _config(MODELS[stage], data_path, dataset, {_BATCH_SIZE[stage]: batch_size, **settings})
    data = loading.load(config)
    torch.autograd.set_detect_anomaly(False)  # which importing RecBole's sequential models switches on
    train, valid, test = data.parts
    parts = (train, valid.copy(valid.inter_feat[: n_valid_users or len(valid)]), test)
    return _recbole_system(config, data.dataset, parts, _LITERAL[stage])


def stock_sasrec(data_path: Path, dataset: str, batch_size: int = 1024) -> System:
    """RecBole's SASRec on RecBole's own data set, loaders and trainer: 64 wide, 2 layers, 2 heads, cross entropy."""
    config = _config("SASRec", data_path, dataset, {"train_batch_size": batch_size})
    data = SequentialDataset(config)
    return _recbole_system(config, data, tuple(data.build()), config.spec.model_class)


def _recbole_system(config: Any, dataset: Any, parts: tuple[Any, Any, Any], model_class: Any) -> System:
    train_sampler, valid_sampler, _ = create_samplers(config, dataset, list(parts))
    train_loader = get_dataloader(config, "train")(config, parts[0], train_sampler, shuffle=True)
    valid_loader = get_dataloader(config, "valid")(config, parts[1], valid_sampler, shuffle=False)
    init_seed(config["seed"], config["reproducibility"])
    model = model_class(config, parts[0]).to(config["device"])
    return System(config, parts, Trainer(config, model), train_loader, valid_loader)


def _config(model: str, data_path: Path, dataset: str, settings: dict[str, Any]) -> Config:
    return Config(model, dataset, None, {"data_path": str(data_path), "checkpoint_dir": "saved", **settings})
