"""What a setting may be: checked before hours of work, not after."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from recbole_msm4sr.core.errors import UserError


@dataclass(frozen=True)
class Rule:
    """A condition on a value and the words that state it."""

    holds: Callable[[Any], bool]
    words: str


def _number(condition: Callable[[float], bool], words: str) -> Rule:
    def holds(x: Any) -> bool:
        return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) and condition(x)

    return Rule(holds, words)


def _whole(least: int) -> Rule:
    return Rule(
        lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= least, f"a whole number, at least {least}"
    )


def _one_of(*choices: str) -> Rule:
    return Rule(lambda x: x in choices, f"one of {', '.join(choices)}")


def _optional(rule: Rule) -> Rule:
    return Rule(lambda x: x is None or rule.holds(x), f"{rule.words}, or nothing")


_flag = Rule(lambda x: isinstance(x, bool), "true or false")
_probability = _number(lambda x: 0 <= x < 1, "a number in [0, 1)")
_share = _number(lambda x: 0 <= x <= 1, "a number in [0, 1]")
_positive = _number(lambda x: x > 0, "a number above 0")
_non_negative = _number(lambda x: x >= 0, "a number, 0 or more")
_modalities = Rule(
    lambda x: isinstance(x, (list, tuple)) and len(x) == len(set(x)) and set(x) <= {"text", "image"},
    "a list of text and image, such as [text] or [text, image]",
)
_names = Rule(
    lambda x: isinstance(x, (list, tuple)) and all(isinstance(name, str) for name in x) and len(x) == len(set(x)),
    "a list of columns, such as [class]",
)

_LEVELS = ("debug", "info", "warning", "error", "critical")

RULES: dict[str, Rule] = {
    "adaptor_dropout_prob": _probability,
    "allow_missing_features": _flag,
    "attention_size": _whole(1),
    "attn_dropout_prob": _probability,
    "attribute_hidden_size": _whole(1),
    "attribute_weight": _non_negative,
    "clip_grad_norm": _optional(
        Rule(
            lambda x: (
                isinstance(x, Mapping)
                and "max_norm" in x
                and set(x) <= {"max_norm", "norm_type"}
                and all(_positive.holds(value) for value in x.values())
            ),
            "a mapping such as {max_norm: 5, norm_type: 2}",
        )
    ),
    "cmcl_weight": _non_negative,
    "content_weight": _share,
    "corruption_prob": _probability,
    "embedding_size": _whole(1),
    "encoder_dropout_prob": _probability,
    "epochs": _whole(0),
    "eval_batch_size": _whole(1),
    "eval_step": _whole(0),
    "eval_target_below": _optional(_whole(1)),
    "expert_norm_init": _positive,
    "feature_storage": _one_of("memory", "disk"),
    "feature_size": _optional(_whole(1)),
    "freeze_transformer": _flag,
    "fusion_type": _one_of("sum", "concat", "gate"),
    "hidden_dropout_prob": _probability,
    "hidden_size": _whole(1),
    "hidden_structure": _one_of("united", "separate"),
    "id_learning_rate": _optional(_positive),
    "id_weight_decay": _optional(_non_negative),
    "initializer_range": _positive,
    "inner_size": _whole(1),
    "layer_norm_eps": _positive,
    "learner": _one_of("adam", "adamw", "sgd", "adagrad", "rmsprop"),
    "learning_rate": _positive,
    "logq_correction": _share,
    "MAX_ITEM_LIST_LENGTH": _whole(1),
    "min_item_count": _whole(1),
    "mixup_max": _number(lambda x: 0 <= x <= 0.5, "a number in [0, 0.5]"),
    "modalities": _modalities,
    "loss_type": _one_of("CE", "sampled"),
    "n_experts": _whole(1),
    "n_heads": _whole(1),
    "n_layers": _whole(1),
    "n_negatives": _whole(1),
    "n_neighbors": _whole(1),
    "n_routings": _whole(0),
    "negative_distribution": _one_of("popularity", "uniform"),
    "precision": _optional(_one_of("float32", "bf16")),
    "pretrain_batch_size": _whole(1),
    "pretrain_epochs": _whole(0),
    "pretrain_eval_step": _whole(0),
    "pretrain_learning_rate": _positive,
    "pretrain_min_item_count": _whole(0),
    "pretrain_modalities": _optional(_modalities),
    "pretrain_stopping_step": _whole(0),
    "pretrain_weight_decay": _non_negative,
    "reconstruction_weight": _non_negative,
    "pruning": _one_of("hard", "soft"),
    "record_losses": _flag,
    "reg_weight": _non_negative,
    "replacement_prob": _share,
    "resume": _flag,
    "reuse": _flag,
    "seed": Rule(lambda x: _whole(0).holds(x) and x < 2**32, "a whole number in [0, 2^32)"),
    "selected_features": _names,
    "seq_seq_weight": _non_negative,
    "sequence_dropout": _probability,
    "shuffle_buffer": _whole(1),
    "similarity": _one_of("dot", "cosine"),
    "state": Rule(lambda x: x is None or (isinstance(x, str) and x.lower() in _LEVELS), f"one of {', '.join(_LEVELS)}"),
    "stopping_step": _whole(0),
    "temperature": _positive,
    "time_precision": _one_of("float64", "float32"),
    "train_batch_size": _whole(1),
    "train_mode": _one_of("packed", "prefix"),
    "train_stage": _one_of("transductive_ft", "inductive_ft"),
    "training": _one_of("two_stage", "finetune", "e2e"),
    "use_cmcl": _flag,
    "use_id": _flag,
    "use_mixup": _flag,
    "use_nip": _flag,
    "view_combination": _one_of("concatenation", "addition", "reconstruction"),
    "weight_decay": _non_negative,
    "window_stride": _whole(1),
}

#: Settings under which RecBole reads and writes whole objects with pickle; our harness does neither.
_PICKLED = ("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path")


def check(settings: Mapping[str, Any], *, is_ours: bool) -> None:
    """Check every setting alone, then those that must agree.

    Args:
        settings: the resolved configuration.
        is_ours: the model is this package's, so that its constraints between settings hold.

    Raises:
        UserError: names the setting, its value and what it may be.
    """
    for key, rule in RULES.items():
        # RecBole's own models name some settings as we do and give them other meanings (n_layers: [64, 32]).
        if key in settings and (is_ours or key in _SHARED) and not rule.holds(settings[key]):
            raise UserError(f"{key} must be {rule.words}; it is {settings[key]!r}")
    for key in _PICKLED:
        if settings.get(key):
            raise UserError(f"{key} is not supported: it stores pickled objects; remove it")
    if settings.get("log_wandb") and find_spec("wandb") is None:
        raise UserError("log_wandb needs the package wandb, which is not installed: pip install wandb")
    if not is_ours:
        return
    if not settings["modalities"] and not settings.get("selected_features"):
        also = ", unless selected_features names columns" if "selected_features" in settings else ""
        raise UserError(f"modalities must be {RULES['modalities'].words}{also}; it is {settings['modalities']!r}")
    for key in ("hidden_size", "attribute_hidden_size"):
        if settings.get(key, 0) % settings.get("n_heads", 1):
            raise UserError(f"{key} ({settings[key]}) must be a multiple of n_heads ({settings['n_heads']})")
    if settings.get("window_stride", 0) > settings["MAX_ITEM_LIST_LENGTH"]:
        raise UserError(
            f"window_stride ({settings['window_stride']}) must not exceed MAX_ITEM_LIST_LENGTH "
            f"({settings['MAX_ITEM_LIST_LENGTH']})"
        )
    if settings.get("feature_storage") == "disk" and settings.get("loss_type") == "CE":
        raise UserError(
            "feature_storage: disk needs loss_type: sampled; loss_type: CE reads the features of all items every step"
        )
    if settings.get("training") == "e2e" and "use_nip" not in settings:
        raise UserError("training must be one of two_stage, finetune; it is 'e2e', which only MSM4SR has")
    if settings.get("pretrained_path") and "use_nip" in settings and settings["training"] != "two_stage":
        raise UserError(
            f"training: {settings['training']} starts from scratch: leave out pretrained_path, or set training to "
            "two_stage"
        )
    missing = set(settings["modalities"]) - set(settings.get("pretrain_modalities") or settings["modalities"])
    if missing:
        raise UserError(
            f"pretrain_modalities ({settings['pretrain_modalities']}) must include all modalities of fine-tuning: "
            f"{', '.join(sorted(missing))} is missing"
        )
    starts = settings.get("pretrained_path") or (
        settings.get("training") == "two_stage" and settings["pretrain_epochs"]
    )
    if settings.get("freeze_transformer") and not starts:
        raise UserError(
            "freeze_transformer would freeze a transformer that nothing has trained: set training to two_stage, or "
            "give a pretrained_path"
        )
    pretrains = "use_nip" in settings and settings.get("training", "two_stage") != "finetune"
    if pretrains and not settings["use_nip"]:
        modalities = settings.get("pretrain_modalities") or settings["modalities"]
        if not settings["use_cmcl"] or len(modalities) < 2:
            raise UserError(
                "without use_nip, pre-training needs use_cmcl and both modalities: nothing is left to learn"
            )


_SHARED = frozenset(
    {
        "clip_grad_norm", "epochs", "eval_batch_size", "eval_step", "eval_target_below", "learning_rate",
        "MAX_ITEM_LIST_LENGTH", "resume", "reuse", "seed", "state", "stopping_step",
        "time_precision", "train_batch_size", "weight_decay",
    }
)  # fmt: skip
