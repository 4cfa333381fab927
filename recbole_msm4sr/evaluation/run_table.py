"""The table at the end of a run: its test metrics, below the latest run of every other model on the same data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from tabulate import tabulate

from recbole_msm4sr.data.dataset import all_interactions


class _LastStage(BaseModel):
    best_epoch: int | None
    epochs: int
    seconds_per_epoch: float | None


class RecordedRun(BaseModel):
    """What the table reads of a run's ``metrics.json``.

    Attributes:
        data: fingerprint of the data that it read; ``users_and_targets`` and ``items`` say what it was tested on.
        size: number of ``users``, ``items`` and ``interactions``.
        evaluation: ``evaluation_settings``.
    """

    model: str
    dataset: str
    seed: int
    data: dict[str, Any]
    size: dict[str, int] = {}
    evaluation: dict[str, Any]
    test_result: dict[str, float] | None
    stages: list[_LastStage] = Field(min_length=1)


def evaluation_settings(config: Any) -> dict[str, Any]:
    """What must agree for two runs' metrics to be comparable."""
    keys = ("eval_args", "eval_target_below", "MAX_ITEM_LIST_LENGTH", "rm_dup_inter", "val_interval")
    filters = ("user_inter_num_interval", "item_inter_num_interval", "benchmark_filename")
    return {key: config[key] for key in (*keys, *filters)}


def tested_on(data: Mapping[str, Any], size: Mapping[str, int]) -> dict[str, Any]:
    """What must agree for two runs to have been tested on the same users, targets and items."""
    if {"users_and_targets", "items"} <= set(data):
        return {"users and targets": data["users_and_targets"], "items": data["items"]}
    return {"interactions": data.get("interactions"), "size": dict(size)}


def describe_evaluation(settings: Mapping[str, Any]) -> str:
    """How models are tested, in a few words, from ``eval_args`` and ``eval_target_below``."""
    args, below = settings["eval_args"], settings["eval_target_below"]
    split = "leave-one-out" if "LS" in args["split"] else f"split {args['split']}"
    if settings.get("benchmark_filename"):
        split = f"split by the files {', '.join(settings['benchmark_filename'])}"
    ranks_all = args["mode"] in ("full", {"valid": "full", "test": "full"})
    ranked = "all items ranked" if ranks_all else f"items ranked: {args['mode']}"
    users = f", users whose target has fewer than {below} training interactions" if below else ""
    return f"{split}, {ranked}{users}"


def size_of(dataset: Any) -> dict[str, int]:
    """Number of ``users``, ``items`` and ``interactions`` of a data set, without padding."""
    interactions = all_interactions(dataset)
    return {"users": dataset.user_num - 1, "items": dataset.item_num - 1, "interactions": len(interactions)}


def describe_size(size: Mapping[str, int]) -> str:
    """``40 users, 30 items, 280 interactions``."""
    return ", ".join(f"{number:,} {name}" for name, number in size.items())


def describe_data(dataset: Any) -> str:
    """Users, items, interactions and features of a data set, in one line."""
    size = size_of(dataset)
    text = f"{describe_size(size)}, {size['interactions'] / max(size['users'], 1):.2f} a user"
    for modality, (values, offsets) in getattr(dataset, "item_features", {}).items():
        covered = int((offsets.diff() > 0).sum())
        text += f"; {modality}: {covered:,} items, {len(values):,} rows of {values.shape[1]}"
    return text


def run_table(metrics: Mapping[str, Any], runs_dir: Path) -> str:
    """The test table of a run, below the latest comparable runs of other models.

    Args:
        metrics: content of the run's ``metrics.json``.
        runs_dir: where runs are kept. Of the same data set, those of the same users, targets, items and evaluation
            settings are shown; the latest runs of other models that are not, are named with the reason.
    """
    run = RecordedRun.model_validate_json(json.dumps(metrics))
    others, left_out = _earlier_runs(run, runs_dir)
    names = list(run.test_result or {})
    table = tabulate(
        [
            [
                row.model,
                row.seed,
                *(row.test_result or {}).values(),
                row.stages[-1].best_epoch or row.stages[-1].epochs,
                row.stages[-1].seconds_per_epoch,
            ]
            for row in [*others, run]
        ],
        headers=["model", "seed", *names, "epoch", "s/epoch"],
        floatfmt=["", "", *[".4f"] * len(names), "", ".1f"],
        missingval="-",
    )
    title = f"test on {run.dataset}, {describe_evaluation(run.evaluation)}"
    if run.dataset == "demo":
        title += " (demo is generated data: the figures show that the code works, not how good a model is)"
    note = "earlier rows: the latest run of each model on the same data\n" if others else ""
    if left_out:
        note += f"left out: {', '.join(f'{model} ({reason})' for model, reason in left_out.items())}\n"
    return f"\n{title}\n{note}\n{table}\n"


def _earlier_runs(run: RecordedRun, runs_dir: Path) -> tuple[list[RecordedRun], dict[str, str]]:
    """The latest comparable run of every other model, oldest first; why other models have none."""
    latest: dict[str, RecordedRun] = {}
    left_out: dict[str, str] = {}
    for path in sorted((runs_dir / run.dataset).glob("*/*/metrics.json"), key=lambda path: path.parent.name):
        model = path.parents[1].name
        if model == run.model or not str(path).isprintable():  # a name that a terminal cannot show is not a run's
            continue
        other = _read(path)
        if other is None or other.model != model:
            left_out[model] = f"{path} is damaged"
        elif other.test_result is None:
            continue
        elif reason := _difference(other, run):
            left_out[model] = reason
        else:
            latest.pop(model, None)
            latest[model] = other
    return list(latest.values()), {model: reason for model, reason in left_out.items() if model not in latest}


def _read(path: Path) -> RecordedRun | None:
    """A run's record; ``None`` where it is damaged or of another shape."""
    try:
        return RecordedRun.model_validate_json(path.read_bytes()) if path.is_file() else None
    except (OSError, ValidationError):
        return None


def _difference(other: RecordedRun, run: RecordedRun) -> str | None:
    """Why two runs do not belong into one table; ``None`` if they do."""
    if tested_on(other.data, other.size) != tested_on(run.data, run.size):
        return f"other users, targets or items: {describe_size(other.size) or 'not recorded'}"
    differing = [key for key, value in run.evaluation.items() if other.evaluation.get(key) != value]
    if differing:
        return f"other {', '.join(differing)}"
    return None if list(other.test_result or {}) == list(run.test_result or {}) else "other metrics"
