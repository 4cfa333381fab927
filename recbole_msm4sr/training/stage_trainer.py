"""The epoch loop of a stage: one log line an epoch, and everything that is needed to resume it."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable, Mapping
from logging import getLogger
from pathlib import Path
from time import perf_counter
from types import UnionType
from typing import Any

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.utils import early_stopping

from recbole_msm4sr.core.distributed import main_only
from recbole_msm4sr.core.errors import DivergedError, UserError
from recbole_msm4sr.evaluation.cross_entropy import mean_cross_entropy
from recbole_msm4sr.training import checkpoint
from recbole_msm4sr.training.safe_trainer import SafeCheckpoints

#: What an interrupted stage knows of its finished epochs.
_PROGRESS: dict[str, type | UnionType] = {
    "cur_step": int, "best_valid_score": int | float, "best_valid_result": dict | None, "best_epoch": int | None,
    "stopped": bool, "seconds": float, "epoch_seconds": list, "losses": list,
}  # fmt: skip


class StageTrainer(SafeCheckpoints):
    """RecBole's trainer with the epoch loop of one stage.

    After every epoch it logs one line and writes ``resume_file``, from which ``fit`` continues as if it had not been
    interrupted. The best epoch (or, without validation, the last) is in ``saved_model_file``.
    """

    resume_file: Path
    stage: str
    best_valid_score: float
    best_epoch: int | None  # counted from 0
    cur_step: int  # validations since the best one, RecBole's name
    stopped: bool
    seconds: float  # of the finished epochs, validation included
    epoch_seconds: list[float]  # of each, validation excluded
    parts: Mapping[str, Any]
    losses: list[dict[str, float]]  # of each, if there are parts to record them of

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, Any]:
        """Train up to ``epochs``; returns the best valid score and the metrics of that epoch (RecBole's signature)."""
        self.eval_collector.data_collect(train_data)
        if self.config["train_neg_sample_args"].get("dynamic", False):
            train_data.get_model(self.model)
        validates = bool(valid_data) and self.eval_step > 0
        if saved and self.epochs == 0:
            self._save_checkpoint(-1)  # the initial weights are the result
        stop = self.stopped
        for epoch in range(self.start_epoch, self.epochs):
            if stop:
                break
            if hasattr(train_data, "set_epoch"):
                train_data.set_epoch(epoch)
            began = perf_counter()
            losses = self._mean_losses(self._train_epoch(train_data, epoch, show_progress=show_progress), train_data)
            seconds = perf_counter() - began
            self._add_losses_to_tensorboard(epoch, losses)
            if self.parts:
                of_parts = {name: mean_cross_entropy(self.model, part) for name, part in self.parts.items()}
                self.losses.append({"train": next(iter(losses.values())), **of_parts})
            score = None
            is_last = epoch + 1 == self.epochs  # validated as well, so that an epoch is chosen however few there are
            is_best = is_last and not validates
            if validates and (is_last or (epoch + 1) % self.eval_step == 0):
                self.phase = f"{self.stage} epoch {epoch + 1}, validation"
                score, result = self._valid_epoch(valid_data, show_progress=show_progress)
                self.best_valid_score, self.cur_step, stop, is_best = early_stopping(
                    score,
                    self.best_valid_score,
                    self.cur_step,
                    max_step=self.stopping_step,
                    bigger=self.valid_metric_bigger,
                )
                self.tensorboard.add_scalar(f"{self._tag}Vaild_score", score, epoch)  # RecBole's spelling
                if is_best:
                    self.best_valid_result, self.best_epoch = result, epoch
                if callback_fn:
                    callback_fn(epoch, score)
            if saved and epoch == 0:
                self._forget_progress()
            if verbose:
                getLogger().info(self._epoch_line(epoch, losses, score, is_best and validates, seconds, train_data))
            self.epoch_seconds.append(seconds)
            self.stopped = stop
            if saved and is_best:
                self._save_checkpoint(epoch)
            self.seconds += perf_counter() - began
            if saved:
                self._save_progress(epoch, train_data)
        self._add_hparam_to_tensorboard(self.best_valid_score)
        return self.best_valid_score, self.best_valid_result

    def start(self, stage: str, model_file: Path, resume_file: Path, parts: Mapping[str, Any] | None = None) -> None:
        """Name the stage and its files; call once, before ``resume`` and ``fit``.

        Args:
            parts: of the split, by name, whose cross entropy is recorded after every epoch.
        """
        self.stage, self.saved_model_file, self.resume_file = stage, str(model_file), resume_file
        self.best_epoch = None
        self.stopped = False
        self.seconds, self.epoch_seconds = 0.0, []
        self.parts, self.losses = parts or {}, []

    def resume(self, train_data: Any) -> None:
        """Continue from ``resume_file``: weights, optimiser, early stopping and random numbers as they were.

        Raises:
            UserError: the file is damaged, or not of this stage.
        """
        try:
            self._restore(checkpoint.load(self.resume_file), train_data)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"the stage {self.stage} cannot be resumed ({str(error).partition(chr(10))[0]}): delete "
                f"{self.resume_file}, or leave resume out to start again"
            ) from error

    def _restore(self, content: dict[str, Any], train_data: Any) -> None:
        for name, kind in _PROGRESS.items():
            if not isinstance(content[name], kind):
                raise ValueError(f"its {name} is {content[name]!r}")
            setattr(self, name, content[name])
        self.start_epoch = content["epoch"] + 1
        if self.best_epoch is not None:
            kept = checkpoint.load(self.saved_model_file)["epoch"]
            if kept not in (self.best_epoch, self.start_epoch):  # the latter if it was killed after the best epoch
                raise ValueError(f"{self.saved_model_file} is not of epoch {self.best_epoch + 1}, its best")
        self._load_model_state(content)
        self.optimizer.load_state_dict(content["optimizer"])
        if isinstance(train_data, AbstractDataLoader):
            train_data.generator.set_state(content["loader"])
        checkpoint.restore_random_state(content["random"], self.config["device"])

    @main_only
    def _forget_progress(self) -> None:
        """Until a fresh training has an epoch, an earlier one can be resumed; then its best weights are overwritten."""
        self.resume_file.unlink(missing_ok=True)

    @main_only
    def _save_progress(self, epoch: int, train_data: Any) -> None:
        checkpoint.save(
            self.resume_file,
            {
                "epoch": epoch,
                **self._model_state(),
                "optimizer": self.optimizer.state_dict(),
                **{name: getattr(self, name) for name in _PROGRESS},
                "loader": train_data.generator.get_state() if isinstance(train_data, AbstractDataLoader) else None,
                "random": checkpoint.random_state(self.config["device"]),
            },
        )

    def _check_nan(self, loss: torch.Tensor) -> None:
        if not torch.isfinite(loss):
            raise DivergedError(
                f"the training loss became {loss.item()} in stage {self.stage}: lower the learning rate, "
                "or check the features (msm4sr features check)"
            )

    def _mean_losses(self, total: float | tuple[float, ...], train_data: Any) -> dict[str, float]:
        """Losses by name, averaged over the epoch's batches."""
        values = total if isinstance(total, tuple) else (total,)
        names = getattr(self.model, "loss_names", ())
        if len(names) != len(values):
            names = ("loss",) if len(values) == 1 else tuple(f"loss{i + 1}" for i in range(len(values)))
        return {name: value / len(train_data) for name, value in zip(names, values, strict=True)}

    def _add_losses_to_tensorboard(self, epoch: int, losses: dict[str, float]) -> None:
        self.tensorboard.add_scalar(f"{self._tag}Loss/Train", math.fsum(losses.values()), epoch)
        if len(losses) > 1:
            for name, value in losses.items():
                self.tensorboard.add_scalar(f"{self._tag}Loss/Train/{name}", value, epoch)

    @property
    def _tag(self) -> str:
        return "Pretrain/" if self.stage == "pretrain" else ""

    def _epoch_line(
        self,
        epoch: int,
        losses: dict[str, float],
        score: float | None,
        is_best: bool,
        seconds: float,
        train_data: Any,
    ) -> str:
        parts = [f"{self.stage} epoch {epoch + 1}/{self.epochs}"]
        parts.append("  ".join(f"{name} {value:.4f}" for name, value in losses.items()))
        if score is not None:
            parts.append(f"valid {self.valid_metric} {score:.4f}{' *' if is_best else ''}")
        parts.append(f"{seconds:.1f} s")
        parts.append(f"{n_pairs(train_data) / seconds:,.0f} pairs/s")
        parts.append(f"peak {peak_memory_mib(self.config['device']):,.0f} MiB")
        return " | ".join(parts)


def n_pairs(train_data: Any) -> int:
    """(sequence, next item) pairs, or training rows, of an epoch."""
    return train_data.n_pairs if hasattr(train_data, "n_pairs") else len(train_data._dataset)


def peak_memory_mib(device: torch.device) -> float:
    """Most memory used so far: of the device on a GPU, else of the process, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
