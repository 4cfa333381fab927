"""One stage of a recipe: train a model, or reuse or resume what is on disk."""

from __future__ import annotations

import hashlib
import inspect
import secrets
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import TypeAdapter, ValidationError
from recbole.utils import init_seed

import recbole_msm4sr
from recbole_msm4sr.core.distributed import barrier, is_main, main_only, once, rank, world_size
from recbole_msm4sr.core.done import DoneRecord, key_of
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import fingerprint, sha256_of_file
from recbole_msm4sr.data import loading
from recbole_msm4sr.evaluation.ranking import History
from recbole_msm4sr.evaluation.user_ranks import UserRanks, user_ranks
from recbole_msm4sr.model.warm_start import freeze_transformer
from recbole_msm4sr.training import checkpoint
from recbole_msm4sr.training.run_folder import plain
from recbole_msm4sr.training.stage_trainer import StageTrainer, peak_memory_mib
from recbole_msm4sr.training.trainer import trainer_class

#: Settings that do not change what a stage learns.
NOT_IDENTITY = frozenset(
    {
        "checkpoint_dir", "data_path", "dataloaders_save_path", "dataset_save_path", "device", "feature_path",
        "feature_storage", "gpu_id",
        "log_wandb", "pre_model_path", "pretrained_path", "resume", "reuse", "runs_dir", "save_dataloaders",
        "save_dataset", "save_step", "show_progress", "state", "use_gpu", "wandb_project", "worker",
    }
)  # fmt: skip

_VERSIONED = ("abc", "builtins", "recbole", "recbole_msm4sr", "torch")


@dataclass
class StageResult:
    """What a finished stage leaves in ``stage.json``.

    Attributes:
        stage: its name.
        model: the model's name.
        identity: hash of configuration, data, starting weights and package version.
        best_valid_score: of ``valid_metric``; ``None`` without validation.
        best_valid_result: all metrics of that epoch.
        best_epoch: counted from 1; ``None`` without validation.
        epochs: epochs run.
        seconds: wall time of its epochs, validation included, however often it was interrupted.
        seconds_per_epoch: median training time of an epoch, validation excluded.
        peak_memory_mib: most memory of the process, or of the GPU.
        n_parameters: trainable parameters.
        losses: with ``record_losses``, one entry an epoch: the mean ``train`` loss, and the cross entropy over all
            items of the ``valid`` and ``test`` targets after it; else empty.
    """

    stage: str
    model: str
    identity: str
    best_valid_score: float | None = None
    best_valid_result: dict[str, float] | None = None
    best_epoch: int | None = None
    epochs: int = 0
    seconds: float = 0.0
    seconds_per_epoch: float | None = None
    peak_memory_mib: float = 0.0
    n_parameters: int = 0
    losses: list[dict[str, float]] = field(default_factory=list)
    reused: bool = field(default=False, compare=False)


_RESULT = TypeAdapter(StageResult)


class Stage:
    """Trains ``config``'s model on ``data`` and keeps the result under ``checkpoint_dir``.

    Args:
        name: pretrain, finetune or train.
        config: the stage's configuration.
        data: the data set, shared by the stages of a recipe.
        start: checkpoint whose weights the model starts from, if any.
        start_identity: what stands for those weights in this stage's identity; default the file's hash.
    """

    def __init__(
        self,
        name: str,
        config: Any,
        data: loading.Data,
        start: Path | None = None,
        start_identity: str | None = None,
    ) -> None:
        self.name, self.config, self.data, self.start = name, config, data, start
        if start is not None and start_identity is None:
            start_identity = sha256_of_file(start)
        self.identity = self._identity(start_identity)
        self.folder = (
            Path(config["checkpoint_dir"]) / config["dataset"] / f"{config['model']}-{name}-{self.identity[:12]}"
        )
        self.model_file = self.folder / "model.pth"
        self._resume_file = self.folder / "progress.pth"
        self.record = DoneRecord(self.folder / "stage.json", self.identity, {"weights": dict})
        self.trainer: Any = None
        self.loaders: Any = None

    def run(self) -> StageResult:
        """Reuse, resume or train; returns the stage's result.

        While one run trains a stage, others that want the same one wait for it.
        """
        with self.record.lock() if is_main() else nullcontext():
            return self._run()

    def _run(self) -> StageResult:
        log = getLogger()
        stored = once(self._stored_result)
        if stored is not None:
            log.info(
                f"{self.name}: reusing {self.folder}, of the same configuration and data (reuse=false trains it again)"
            )
            return StageResult(**{**stored, "reused": True})
        self._build()
        train_data, valid_data, _ = self.loaders
        resumable = isinstance(self.trainer, StageTrainer)
        if once(self._resume_file.is_file):
            if self.config["resume"] and resumable:
                self.trainer.resume(train_data)
                log.info(f"{self.name}: resuming after epoch {self.trainer.start_epoch}")
            else:
                log.info(f"{self.name}: starting again; resume=true would continue the interrupted {self.folder}")
        elif self.config["resume"]:
            log.info(f"{self.name}: nothing to resume, with these settings and data no epoch has been finished")
        log.info(
            f"{self.name}: {self.config['model']}, {self._n_parameters():,} parameters, on {self.config['device']}"
        )
        began = perf_counter()
        score, result = self.trainer.fit(train_data, valid_data, show_progress=self.config["show_progress"])
        validated = result is not None
        best_epoch = getattr(self.trainer, "best_epoch", None)
        seconds = sorted(getattr(self.trainer, "epoch_seconds", []))
        outcome = StageResult(
            stage=self.name,
            model=self.config["model"],
            identity=self.identity,
            best_valid_score=float(score) if validated else None,
            best_valid_result={key: float(value) for key, value in result.items()} if validated else None,
            best_epoch=None if best_epoch is None else best_epoch + 1,
            epochs=len(seconds),
            seconds=getattr(self.trainer, "seconds", perf_counter() - began),
            seconds_per_epoch=seconds[len(seconds) // 2] if seconds else None,
            peak_memory_mib=peak_memory_mib(self.config["device"]),
            n_parameters=self._n_parameters(),
            losses=getattr(self.trainer, "losses", []),
        )
        self._finish(outcome)
        barrier()  # the checkpoint is there, for the next stage and for the test
        return outcome

    def _stored_result(self) -> dict[str, Any] | None:
        """The result of a finished run of this stage, if it may be reused and its weights have not changed since."""
        if not self.config["reuse"] or not self.record.path.exists():
            return None
        stored = self.record.read()
        problem = f"{self.record.path} is damaged" if stored is None else self._damage(stored)
        if stored is None or problem is not None:
            getLogger().warning(f"{self.name}: {problem}: the stage does not count as finished")
            return None
        self._resume_file.unlink(missing_ok=True)  # of a run that was killed between its last two steps
        return {attribute.name: stored[attribute.name] for attribute in fields(StageResult) if attribute.name in stored}

    def _damage(self, stored: Mapping[str, Any]) -> str | None:
        """Why a finished stage cannot be reused. Weights whose size or time has changed are read once."""
        try:
            _RESULT.validate_python(stored)
        except ValidationError:
            return f"{self.record.path} is damaged"
        if not self.model_file.is_file():
            return f"{self.model_file} is missing"
        found = fingerprint(self.model_file, stored["weights"])
        if found["sha256"] != stored["weights"].get("sha256"):
            return f"{self.model_file} is not the one that the finished stage left"
        if reason := checkpoint.damage(self.model_file):
            return f"{self.model_file}: {reason}"
        if found != stored["weights"]:
            self.record.write({**stored, "weights": found})
        return None

    @main_only
    def _finish(self, outcome: StageResult) -> None:
        """Record the stage as finished, with the hash of its weights: until then an older record does not fit them."""
        content = {name: value for name, value in asdict(outcome).items() if name != "reused"}
        self.record.write({**content, "weights": fingerprint(self.model_file)})
        self._resume_file.unlink(missing_ok=True)

    def test(self) -> tuple[dict[str, float], UserRanks | None]:
        """Metrics of the stage's checkpoint on the test part, and every user's rank if metrics come from ranks."""
        if self.trainer is None:
            self._build()
        _, _, test_data = self.loaders
        self.trainer.phase = "test"
        history = History(self.data.dataset)
        result = self.trainer.evaluate(
            test_data,
            load_best_model=True,
            model_file=str(self.model_file),
            show_progress=self.config["show_progress"],
            history=history,
        )
        ranks = user_ranks(self.trainer, test_data, self.data.dataset, history, self.data.training_counts())
        return {key: float(value) for key, value in result.items()}, ranks

    def _build(self) -> None:
        """Data loaders, model and trainer, from the stage's own seed."""
        init_seed(self.config["seed"], self.config["reproducibility"])
        self.loaders = loading.loaders(self.config, self.data)
        if world_size() > 1:
            self.loaders[0].share(rank(), world_size())
        init_seed(self.config["seed"], self.config["reproducibility"])
        if self.start is not None and self.config.spec.as_second:
            checkpoint.load(self.start)  # one clear error instead of RecBole's own
            self.config[self.config.spec.start_key] = str(self.start)
        try:
            model = self.config.spec.model_class(self.config, self.data.parts[0]).to(self.config["device"])
        except RuntimeError as error:
            if self.start is None or "loading state_dict" not in str(error):
                raise
            raise UserError(
                f"{self.start} does not fit {self.config['model']}: it is of another model or data"
            ) from error
        if self.start is not None and hasattr(model, "load_backbone"):
            try:
                model.load_backbone(checkpoint.load(self.start)["state_dict"])
            except ValueError as error:
                raise UserError(f"{self.start} does not fit {self.config['model']}: {error}") from error
        if self.config["freeze_transformer"]:
            freeze_transformer(model)
        self.trainer = trainer_class(self.config)(self.config, model)
        self.trainer.saved_model_file = str(self.model_file)
        if isinstance(self.trainer, StageTrainer):
            valid, test = self.data.evaluated
            parts = {"valid": valid, "test": test} if self.config["record_losses"] else {}
            self.trainer.start(self.name, self.model_file, self._resume_file, parts)

    def _n_parameters(self) -> int:
        return sum(p.numel() for p in self.trainer.model.parameters() if p.requires_grad)

    def _identity(self, start_identity: str | None) -> str:
        settings = {k: plain(v) for k, v in self.config.final_config_dict.items() if k not in NOT_IDENTITY}
        content: dict[str, Any] = {
            "settings": settings,
            "data": self.data.fingerprint,
            "start": start_identity,
            "version": recbole_msm4sr.__version__,
        }
        if own_code := _code_of(self.config.spec.model_class):
            content["code"] = own_code
        if world_size() > 1:
            content["processes"] = world_size()  # the batches are so many times larger
        return key_of(content)


def _code_of(model_class: type) -> str:
    """Hash of the code of a user's own model; empty for those of installed packages, which have a version."""
    own = [kind for kind in model_class.__mro__ if kind.__module__.split(".")[0] not in _VERSIONED]
    try:
        return hashlib.sha256("".join(map(inspect.getsource, own)).encode()).hexdigest() if own else ""
    except (OSError, TypeError):  # typed into an interactive session: never taken for the same
        return secrets.token_hex(32)
