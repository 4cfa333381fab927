"""Tables of test metrics: this run, beside the latest run of every other model on the same data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate


def evaluation_settings(config: Any) -> dict[str, Any]:
    """What must agree for two runs' metrics to be comparable."""
    keys = ("eval_args", "eval_target_below", "MAX_ITEM_LIST_LENGTH", "rm_dup_inter", "val_interval")
    return {key: config[key] for key in (*keys, "user_inter_num_interval", "item_inter_num_interval")}


def describe_evaluation(settings: Mapping[str, Any]) -> str:
    """How models are tested, in a few words, from ``eval_args`` and ``eval_target_below``."""
    args, below = settings["eval_args"], settings["eval_target_below"]
    split = "leave-one-out" if "LS" in args["split"] else f"split {args['split']}"
    ranks_all = args["mode"] in ("full", {"valid": "full", "test": "full"})
    ranked = "all items ranked" if ranks_all else f"items ranked: {args['mode']}"
    users = f", users whose target has fewer than {below} training interactions" if below else ""
    return f"{split}, {ranked}{users}"


def describe_data(dataset: Any) -> str:
    """Users, items and interactions of a data set, in one line."""
    interactions = dataset.inter_feat.flat if hasattr(dataset.inter_feat, "flat") else dataset.inter_feat
    n_users, n_items = dataset.user_num - 1, dataset.item_num - 1  # without padding
    average = len(interactions) / max(n_users, 1)
    text = f"{n_users:,} users, {n_items:,} items, {len(interactions):,} interactions, {average:.2f} a user"
    for modality, (values, offsets) in getattr(dataset, "item_features", {}).items():
        covered = int((offsets.diff() > 0).sum())
        text += f"; {modality}: {covered:,} items, {len(values):,} rows of {values.shape[1]}"
    return text


def run_table(metrics: dict[str, Any], runs_dir: Path) -> str:
    """The test table of a run, below the latest comparable runs of other models.

    Args:
        metrics: content of the run's ``metrics.json``.
        runs_dir: where runs are kept; those of the same data set, interactions and evaluation settings are shown.
    """
    others = comparable_runs(metrics, runs_dir)
    rows = [*others, metrics]
    names = list(metrics["test_result"])
    table = tabulate(
        [
            [
                row["model"],
                row["seed"],
                *(row["test_result"].get(name) for name in names),
                row["stages"][-1]["best_epoch"] or row["stages"][-1]["epochs"],
                row["stages"][-1]["seconds_per_epoch"],
            ]
            for row in rows
        ],
        headers=["model", "seed", *names, "epoch", "s/epoch"],
        floatfmt=["", "", *[".4f"] * len(names), "", ".1f"],
        missingval="-",
    )
    title = f"test on {metrics['dataset']}, {describe_evaluation(metrics['evaluation'])}"
    if metrics["dataset"] == "demo":
        title += " (demo is generated data: the figures show that the code works, not how good a model is)"
    note = "earlier rows: the latest run of each model on the same data\n" if others else ""
    return f"\n{title}\n{note}\n{table}\n"


def comparable_runs(metrics: dict[str, Any], runs_dir: Path) -> list[dict[str, Any]]:
    """The latest finished run of every other model with the same interactions and evaluation, oldest first."""
    latest: dict[str, tuple[str, dict[str, Any]]] = {}
    for path in sorted((runs_dir / metrics["dataset"]).glob("*/*/metrics.json"), key=lambda p: p.parent.name):
        other = json.loads(path.read_text(encoding="utf-8"))
        same = (
            other["test_result"] is not None
            and other["data"]["interactions"] == metrics["data"]["interactions"]
            and other["evaluation"] == json.loads(json.dumps(metrics["evaluation"]))
            and list(other["test_result"]) == list(metrics["test_result"])
        )
        if same and other["model"] != metrics["model"]:
            latest[other["model"]] = (path.parent.name, other)
    return [other for _, other in sorted(latest.values(), key=lambda pair: pair[0])]
