"""RecBole's trainers with safe checkpoints, finite scores and a mixed precision that loses nothing."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import torch
from recbole.trainer import Trainer

from recbole_msm4sr.core.distributed import main_only
from recbole_msm4sr.core.errors import DivergedError, UserError
from recbole_msm4sr.evaluation import ranking
from recbole_msm4sr.evaluation.user_ranks import RecordingEvaluator
from recbole_msm4sr.training import checkpoint


class SafeCheckpoints(Trainer):
    """RecBole's trainer with checkpoints of tensors and plain values, read only as such."""

    def __init__(self, config: Any, model: torch.nn.Module) -> None:
        super().__init__(config, model)
        # RecBole's SINE, which is imported with every sequential model, turns this aid for debugging on for the whole
        # process; it makes training steps up to 1.8 times slower.
        torch.autograd.set_detect_anomaly(False)
        self.phase = "evaluation"  # what messages name
        self.evaluator = RecordingEvaluator(config)
        if self.enable_amp:
            self._use_bfloat16()

    def _use_bfloat16(self) -> None:
        own_epoch = super()._train_epoch.__func__
        if own_epoch is not Trainer._train_epoch and "autocast" in own_epoch.__code__.co_names:
            raise UserError(f"enable_amp: {self.config['model']} would train in float16 without scaling: leave it out")
        self.enable_scaler = False
        getLogger().info("enable_amp: bfloat16, which needs no scaling (RecBole's float16 loses small gradients)")

    def _train_epoch(self, *args: Any, **kwargs: Any) -> Any:
        """RecBole's epoch; where it computes in mixed precision (``enable_amp``), that is bfloat16."""
        kind = self.config["device"].type
        before = torch.get_autocast_dtype(kind)
        torch.set_autocast_dtype(kind, torch.bfloat16)
        try:
            return super()._train_epoch(*args, **kwargs)
        except KeyError as error:
            if self.config["train_neg_sample_args"]["distribution"] == "none" and self._is_of_negatives(error.args[0]):
                raise UserError(
                    f"train_neg_sample_args must not be nothing: {self.config['model']} learns from negatives"
                ) from error
            raise
        except RuntimeError as error:
            if self.enable_amp and "bfloat16" in str(error).lower():  # no sparse products, for one
                where, reason = f"in bfloat16 on {self.device}", str(error).partition("\n")[0]
                raise UserError(
                    f"enable_amp: {self.config['model']} cannot train {where} ({reason}): leave it out"
                ) from error
            raise
        finally:
            torch.set_autocast_dtype(kind, before)

    def _is_of_negatives(self, column: object) -> bool:
        return column == self.config["LABEL_FIELD"] or str(column).startswith(self.config["NEG_PREFIX"])

    @main_only
    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        checkpoint.save(
            kwargs.pop("saved_model_file", self.saved_model_file),
            {
                "config": self.config.final_config_dict,
                "epoch": epoch,
                "cur_step": self.cur_step,
                "best_valid_score": self.best_valid_score,
                **self._model_state(),
            },
        )

    def _model_state(self) -> dict[str, Any]:
        other = self.model.other_parameter()
        # FDSA and its kin list a submodule there, whose weights are in the state_dict already
        plain = {name: value for name, value in other.items() if not isinstance(value, torch.nn.Module)}
        return {"state_dict": self.model.state_dict(), "other_parameter": plain}

    def _load_model_state(self, content: dict[str, Any]) -> None:
        self.model.load_state_dict(content["state_dict"])
        device, other = self.config["device"], content["other_parameter"]
        self.model.load_other_parameter(
            {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in other.items()}
        )

    def save_pretrained_model(self, epoch: int, saved_model_file: str) -> None:
        """RecBole's hook of models with a pre-training stage."""
        self._save_checkpoint(epoch, saved_model_file=saved_model_file)
        self.saved_model_file = saved_model_file

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
        history: ranking.History | None = None,
    ) -> Any:
        """RecBole's metrics; ``load_best_model`` reads ``model_file``, or the trainer's own checkpoint, safely.

        Args:
            history: to have our models' ranks found exactly, both ways (``user_ranks``), and not only the best.

        Raises:
            DivergedError: a score is NaN or infinite.
        """
        if load_best_model and eval_data:
            self._load_model_state(checkpoint.load(model_file or self.saved_model_file))
        try:
            if eval_data and ranking.applies(self.evaluator, self.model, eval_data):
                return self._evaluate_ranks(eval_data, history, show_progress)
            return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)
        except DivergedError as error:
            raise DivergedError(f"{self.config['model']}, {self.phase}: {error}") from error

    def _evaluate_ranks(self, eval_data: Any, history: ranking.History | None, show_progress: bool) -> Any:
        self.tot_item_num = eval_data._dataset.item_num  # as RecBole's own evaluation does
        n_best = max(self.config["topk"])
        rank, unseen_rank = ranking.rank_of_targets(
            self.model,
            eval_data._dataset,
            n_best=None if history else n_best,
            history=history,
            show_progress=show_progress,
        )
        struct = ranking.hits(rank, n_best)
        if history:
            struct.set("rank", rank)
            struct.set("unseen_rank", unseen_rank)
        result = self.evaluator.evaluate(struct)
        self.wandblogger.log_eval_metrics(result, head="eval")
        return result

    def scores(self, batch: Any) -> torch.Tensor:
        """Scores of all items, float ``[B, n_items]``, for a batch of a full-ranking loader that was evaluated before.

        Padding, and for general models the user's history, have -inf.
        """
        self.model.eval()
        return self._full_sort_batch_eval(batch)[1]

    def _full_sort_batch_eval(self, batched_data: Any) -> Any:
        return _checked(super()._full_sort_batch_eval(batched_data))

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        return _checked(super()._neg_sample_batch_eval(batched_data))


def _checked(evaluated: Any) -> Any:
    """RecBole's evaluated batch, whose scores may be -inf, as those of padding are, but neither NaN nor inf.

    NaN would be ranked first: no other score is larger.
    """
    if not evaluated[1].max() < torch.inf:  # the largest of scores with a NaN is NaN
        raise DivergedError(ranking.NOT_FINITE)
    return evaluated
