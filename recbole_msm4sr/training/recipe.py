"""The whole job: data, stages, test, table. Reads top to bottom."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import Any

from recbole.utils import init_seed

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.distributed import barrier, is_main, joined, main_first, world_size
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data import loading
from recbole_msm4sr.evaluation import run_table
from recbole_msm4sr.training.run_folder import RunFolder, environment
from recbole_msm4sr.training.stage import Stage

RANKS = "test_ranks.npz"


def run(
    model: str | type,
    dataset: str,
    config_file_list: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    *,
    test: bool = True,
    console: bool = True,
) -> dict[str, Any]:
    """Train and test a model, as ``python run_recbole.py --model=... --dataset=...`` does.

    Args:
        model: MSM4SR, SASRecM, ... or any model of RecBole, by name; or a class of your own.
        dataset: name of the data set below ``data_path``.
        config_file_list: YAML files of settings.
        config_dict: settings, which win over the files.
        test: whether the test part is looked at; a search for settings should not.
        console: whether the log and the table are shown, besides being kept.

    Returns:
        RecBole's keys ``model``, ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result``, ``test_result``
        (``None`` without a test), and ``run_folder``, the path of what the run left.

    Raises:
        UserError: settings or data that cannot be used.
    """
    config = Config(model, dataset, config_file_list, config_dict)
    with joined(config["device"]):
        if world_size() > 1 and not config.spec.is_packed:
            raise UserError(
                f"{config['model']} trains in one process, only this package's sequential models in several: "
                "leave torchrun out"
            )
        config["show_progress"] = config["show_progress"] and sys.stderr.isatty() and is_main()
        config["log_wandb"] = config["log_wandb"] and is_main()
        init_seed(config["seed"], config["reproducibility"])
        with main_first():  # which may generate the data set
            data = loading.load(config)
        plan = [(name, stage, _given_start(stage)) for name, stage in _plan(config, config_file_list, config_dict)]
        folder = RunFolder(config)
        with folder.in_use(), folder.logging(config["state"], console=console):
            return _run(config, data, plan, folder, test=test, console=console)


def _run(
    config: Config,
    data: loading.Data,
    plan: list[tuple[str, Config, Path | None]],
    folder: RunFolder,
    *,
    test: bool,
    console: bool,
) -> dict[str, Any]:
    """Run the planned stages, test the last one if that is wanted, and write the run's folder."""
    log, began = getLogger(), perf_counter()
    log.info(f"{config['model']} on {config['dataset']}; this run's files: {folder.path}")
    log.info(run_table.describe_data(data.dataset))
    for line in data.notes:
        log.warning(line)
    folder.write_json(
        "environment.json",
        {"versions": environment(), "processes": world_size(), "data": data.fingerprint},
    )

    if (
        config.spec.first_stage
        and not config.spec.as_second
        and [name for name, _, start in plan if start is None] == ["finetune"]
    ):
        log.info("finetune: from scratch; no stage 1 is run (training, pretrain_epochs)")
    first, *others = plan
    name, stage_config, start = first
    stage = Stage(name, stage_config, data, start=start)
    results = [stage.run()]
    for name, stage_config, _ in others:
        stage = Stage(name, stage_config, data, start=stage.model_file, start_identity=stage.identity)
        results.append(stage.run())
    test_result, ranks = stage.test() if test else (None, None)

    metrics = {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "data": data.fingerprint,
        "size": run_table.size_of(data.dataset),
        "evaluation": run_table.evaluation_settings(config),
        "best_valid_score": results[-1].best_valid_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": results[-1].best_valid_result,
        "test_result": test_result,
        "stages": [vars(result) for result in results],
        "seconds": perf_counter() - began,
    }
    if ranks is not None and is_main():
        ranks.save(folder.path / RANKS)
    folder.keep_checkpoint(stage.model_file)
    folder.write_json("metrics.json", metrics)  # the last file: a folder without it is incomplete
    log.info(f"done in {metrics['seconds']:.0f} s; metrics, settings and checkpoint: {folder.path}")
    if is_main() and test and console:
        print(run_table.run_table(metrics, Path(config["runs_dir"])), flush=True)
    barrier()  # the folder is complete
    recbole_keys = ("model", "best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")
    return {**{key: metrics[key] for key in recbole_keys}, "run_folder": str(folder.path)}


def _plan(
    config: Config, config_file_list: Sequence[str] | None, config_dict: Mapping[str, Any] | None
) -> list[tuple[str, Config]]:
    """The stages of a recipe, in order, each with its configuration."""

    def stage_config(model: str | type, **settings: Any) -> Config:
        stage = Config(
            model, config["dataset"], config_file_list, {**(config_dict or {}), **settings}, drop_unread=True
        )
        stage["show_progress"], stage["log_wandb"] = config["show_progress"], config["log_wandb"]
        return stage

    spec = config.spec
    if spec.is_first_stage:
        return [("pretrain", config)]
    if spec.as_second:  # one model for both stages
        model, given = spec.given_class or spec.name, config.external_config_dict
        first = {**spec.as_first, "epochs": config["pretrain_epochs"]}
        if given.get("train_stage") == "pretrain":
            return [("pretrain", stage_config(model, **first))]
        second = ("finetune", stage_config(model, **spec.as_second))
        if given.get(str(spec.start_key)):
            return [second]
        if given.get("train_stage") == "finetune":
            raise UserError(
                f"{spec.name} fine-tunes a pre-trained model: set {spec.start_key}, or leave train_stage out"
            )
        return [("pretrain", stage_config(model, **first)), second]
    if spec.first_stage:
        if config["training"] == "e2e":
            return [("e2e", config)]
        pretrains = config["training"] == "two_stage" and not config["pretrained_path"] and config["pretrain_epochs"]
        stages = [("pretrain", stage_config(spec.first_stage))] if pretrains else []
        return [*stages, ("finetune", config)]
    return [("train", config)]


def _given_start(config: Config) -> Path | None:
    """The checkpoint that the user asks to start from."""
    path = config[config.spec.start_key] if config.spec.start_key else None
    if path and not Path(path).is_file():
        raise UserError(f"there is no checkpoint {path}")
    return Path(path) if path else None
