"""Settings of every model: RecBole's overall, data and evaluation settings, and the harness's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from recbole_msm4sr.config import types as t
from recbole_msm4sr.config.types import Settings, knob
from recbole_msm4sr.core.errors import shown

_KNOWLEDGE = "knowledge graphs are not read here"
_PICKLE = "it stores pickled objects, which are not safe to read; leave it out"
#: RecBole's settings that have no effect here, except for models that declare them, and what to do instead.
#: RecBole's default may be given.
WITHOUT_EFFECT = {
    "threshold": "it makes labels, and models are compared by rankings; filter interactions by val_interval",
    "valid_metric_bigger": "it follows from valid_metric",
    "loss_decimal_place": "losses are logged with four decimals",
    "POSITION_FIELD": "no model reads it",
    "transform": "each model comes with its own",
    "save_dataset": _PICKLE,
    "dataset_save_path": _PICKLE,
    "save_dataloaders": _PICKLE,
    "dataloaders_save_path": _PICKLE,
    "kg_reverse_r": _KNOWLEDGE,
    "entity_kg_num_interval": _KNOWLEDGE,
    "relation_kg_num_interval": _KNOWLEDGE,
    "alias_of_entity_id": _KNOWLEDGE,
    "alias_of_relation_id": _KNOWLEDGE,
    "HEAD_ENTITY_ID_FIELD": _KNOWLEDGE,
    "TAIL_ENTITY_ID_FIELD": _KNOWLEDGE,
    "RELATION_ID_FIELD": _KNOWLEDGE,
    "ENTITY_ID_FIELD": _KNOWLEDGE,
    "RATING_FIELD": "no model but DMF reads ratings",
    "enable_scaler": "enable_amp is bfloat16 here, which needs no scaling",
    "require_pow": "no model but LightGCN and SimpleX reads it",
}
WITHOUT_EFFECT_ON_OURS = {
    "enable_amp": "it is a setting of RecBole's models; our sequential ones have precision: bf16 instead",
}
#: RecBole's loaders and losses, which packed training replaces.
UNREAD_BY_PACKED = frozenset({"require_pow", "shuffle", "train_neg_sample_args", "transform"})

_Ratios = Annotated[list[t.Positive], Field(min_length=3, max_length=3)]


def _one_way(split: dict[str, Any]) -> dict[str, Any]:
    if len(split) != 1 or ("LS" in split) != (split.get("LS") == "valid_and_test"):
        raise ValueError("not one way to split")
    if "LS" not in split and not isinstance(next(iter(split.values())), list):
        raise ValueError("not ratios")
    return split


class EvalArgs(Settings):
    """RecBole's ``eval_args``."""

    split: Annotated[
        dict[Literal["LS", "RS", "TS"], Literal["valid_and_test"] | _Ratios],
        AfterValidator(_one_way),
        "{LS: valid_and_test}, or {RS: [a, b, c]} or {TS: [a, b, c]} with numbers above 0 for the training, validation "
        "and test parts",
    ]
    group_by: Literal["user", "none"] | None
    order: Literal["TO", "RO"]
    mode: Annotated[
        t.Mode | dict[Literal["valid", "test"], t.Mode],
        "full, uniN or popN (all items, or N random ones, at most 9999, such as uni100), or a mapping such as "
        "{valid: uni100, test: full}; labeled is not supported, since models are compared by rankings",
    ]


class NegativeSampling(Settings):
    """RecBole's ``train_neg_sample_args``."""

    distribution: Literal["uniform", "popularity"] | None = "uniform"
    sample_num: t.Few = 1
    alpha: t.NonNegative = 1.0
    dynamic: bool = False
    candidate_num: t.CountOrZero = 0


class Harness(Settings):
    """What every model reads. The defaults are those of sequential models, RecBole's where overall.yaml has none."""

    # Machine and files
    gpu_id: t.Gpus = knob("0", "GPUs to use, as CUDA numbers them")
    use_gpu: bool = knob(True, "use a GPU where there is one")
    worker: Annotated[int, Field(ge=0, le=64)] = knob(0, "processes that load data for RecBole's loaders")
    seed: t.Seed = knob(2020, "of all random numbers")
    reproducibility: bool = knob(True, "deterministic operations of cuDNN")
    state: t.LogLevel = knob("INFO", "level of the log")
    show_progress: bool = knob(True, "show progress bars on a terminal")
    log_wandb: bool = knob(False, "log to Weights & Biases")
    wandb_project: t.Text = knob("recbole", "project there")
    data_path: t.Text = knob("dataset", "folder of data sets: <data_path>/<dataset>/<dataset>.inter")
    feature_path: t.Text | None = knob(None, "folder of the feature stores; default <data_path>/<dataset>/features")
    checkpoint_dir: t.Text = knob("saved", "finished and interrupted stages, for reuse and --resume")
    runs_dir: t.Text = knob("runs", "tables, metrics, logs and checkpoints of runs")
    reuse: bool = knob(True, "reuse a finished stage of the same configuration and data")
    resume: bool = knob(False, "continue an interrupted stage from its last epoch")

    # Training
    epochs: t.Epochs = knob(300, "most epochs (of fine-tuning, where a model has two stages)")
    train_batch_size: t.Count = knob(2048, "training rows of a step")
    learner: t.Learner = knob("adam", "optimiser")
    learning_rate: t.Positive = knob(0.001, "of the optimiser")
    weight_decay: t.NonNegative = knob(0.0, "of the optimiser")
    clip_grad_norm: t.Clipping | None = knob(None, "arguments of torch's clip_grad_norm_")
    eval_step: t.CountOrZero = knob(1, "validate every so many epochs; 0: never")
    stopping_step: t.CountOrZero = knob(10, "stop after more than so many validations without a better one", paper=10)

    # Evaluation
    eval_args: EvalArgs = knob(None, "split, group_by, order and mode")
    eval_target_below: t.Count | None = knob(None, "validate and test only on targets with fewer interactions", "10")
    repeatable: bool = knob(True, "rank items again that a user has had; sampled evaluation of general models")
    metrics: t.Metrics = knob(["Recall", "NDCG"], "computed of every ranking", paper="Recall, NDCG")
    topk: t.Cutoffs = knob([5, 10, 20], "lengths of the ranking that metrics look at", paper="5, 10, 20")
    valid_metric: t.Text = knob("Recall@20", "chooses the best epoch", paper="R@20")
    eval_batch_size: t.Count = knob(4096, "users, or scores of general models, of a step of evaluation")
    metric_decimal_place: Annotated[int, Field(ge=1, le=15)] = knob(6, "decimals of metrics")
    tail_ratio: t.Share | None = knob(None, "share of items that TailPercentage counts as rare")

    # Data: files and columns
    MAX_ITEM_LIST_LENGTH: Annotated[int, Field(ge=1, le=10_000)] = knob(50, "longest input sequence", paper=50)
    time_precision: Literal["float64", "float32"] = knob(
        "float64", "times are sorted as in the file, or as RecBole does"
    )
    encoding: t.Encoding | None = knob(None, "of the data files; default UTF-8")
    field_separator: t.Separator = knob("\t", "between columns")
    seq_separator: t.Separator = knob(" ", "between the values of a sequence")
    USER_ID_FIELD: t.Name = knob("user_id", "column of users")
    ITEM_ID_FIELD: t.Name = knob("item_id", "column of items")
    TIME_FIELD: t.Name = knob("timestamp", "column of times")
    LABEL_FIELD: t.Name = knob("label", "column of labels that RecBole's samplers make")
    NEG_PREFIX: t.Name = knob("neg_", "prefix of columns of negatives")
    ITEM_LIST_LENGTH_FIELD: t.Name = knob("item_length", "column of the lengths of sequences")
    LIST_SUFFIX: t.Name = knob("_list", "suffix of columns of sequences")
    seq_len: dict[t.Name, t.Count] | None = knob(None, "longest sequence of a column")
    load_col: dict[t.Name, list[t.Name] | Literal["*"]] | None = knob(None, "columns to read, by file suffix")
    unload_col: dict[t.Name, list[t.Name]] | None = knob(None, "columns not to read, by file suffix")
    unused_col: dict[t.Name, list[t.Name]] | None = knob(None, "columns to drop after filtering, by file suffix")
    additional_feat_suffix: t.NameOrNames | None = knob(None, "further files to read")
    benchmark_filename: t.ThreeNames | None = knob(None, "files of a split that is made already")
    numerical_features: t.Names = knob([], "columns of numbers to embed")

    # Data: filters and conversions
    rm_dup_inter: Literal["first", "last"] | None = knob(None, "which of repeated interactions to keep")
    val_interval: dict[t.Name, t.Interval | list[t.Text]] | None = knob(None, "values to keep, by column")
    filter_inter_by_user_or_item: bool = knob(True, "drop interactions that .user and .item do not list")
    user_inter_num_interval: t.Interval | None = knob("[0,inf)", "users to keep, by their number of interactions")
    item_inter_num_interval: t.Interval | None = knob("[0,inf)", "items to keep, by their number of interactions")
    alias_of_user_id: t.Names | None = knob(None, "columns that share the numbers of users")
    alias_of_item_id: t.Names | None = knob(None, "columns that share the numbers of items")
    preload_weight: dict[t.Name, t.Name] | None = knob(None, "columns of vectors, by column of IDs")
    normalize_field: t.Names | None = knob(None, "columns of numbers to bring into [0, 1]")
    normalize_all: bool | None = knob(None, "bring all columns of numbers into [0, 1]")
    discretization: dict[t.Name, t.Discretization] | None = knob(None, "numerical_features to cut into buckets")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        topk = self.topk if isinstance(self.topk, list) else [self.topk]
        metrics = self.metrics if isinstance(self.metrics, list) else [self.metrics]
        computed = [f"{metric}@{k}" for metric in metrics for k in topk]
        if self.valid_metric.lower() not in [name.lower() for name in computed]:
            raise ValueError(
                f"valid_metric must be one of the metrics at one of topk ({', '.join(computed)}); "
                f"it is {shown(self.valid_metric)}"
            )
        self._columns_agree()
        if self.normalize_all and self.normalize_field is not None:
            raise ValueError("normalize_field has no effect beside normalize_all: leave one of them out")
        if not set(self.discretization or {}) <= set(self.numerical_features):
            raise ValueError("discretization must be of columns that numerical_features lists")
        return self

    def _columns_agree(self) -> None:
        names = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "LABEL_FIELD", "ITEM_LIST_LENGTH_FIELD")
        columns = [getattr(self, name) for name in names]
        columns += [f"{column}{self.LIST_SUFFIX}" for column in columns[1:3]]
        if len(set(columns)) < len(columns):
            raise ValueError(f"{', '.join(names)} and the lists with LIST_SUFFIX must have names that differ")
        if self.load_col is not None and "inter" not in self.load_col:
            raise ValueError("load_col must list the columns of inter, such as {inter: [user_id, item_id, timestamp]}")
        both = set(self.load_col or {}) & set(self.unload_col or {})
        if both:
            raise ValueError(f"load_col and unload_col both name {', '.join(sorted(both))}: leave one of them out")
        suffixes = self.additional_feat_suffix or []
        files = {"inter", "user", "item", *([suffixes] if isinstance(suffixes, str) else suffixes)}
        for suffix, unused in (self.unused_col or {}).items():
            if suffix not in files or {self.USER_ID_FIELD, self.ITEM_ID_FIELD} & set(unused):
                raise ValueError(f"unused_col may drop columns of {', '.join(sorted(files))}, but for users and items")


class Loaders(Harness):
    """What models read that train on RecBole's loaders: its own, and our general ones."""

    shuffle: bool = knob(True, "shuffle the training rows every epoch")
    train_neg_sample_args: NegativeSampling | None = knob(None, "how negatives are drawn; nothing: none are")
