"""What is to be compared, and what is wrong with it before anything is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data import loading
from recbole_msm4sr.evaluation.run_table import describe_size, evaluation_settings, size_of, tested_on
from recbole_msm4sr.studies.experiments import Study, Variant
from recbole_msm4sr.studies.grid import FACTORS, Grid, drawn_points, grid_of


@dataclass(frozen=True)
class Plan:
    """A study on a data set, as it was asked for.

    Attributes:
        study: its rows, with their own settings.
        settings: of every row whose model reads them.
        grids: by section (``grid.read_grid``), searched for every row as far as its model reads them; empty: no search.
        n_trials: points of its grid tried for every row.
        n_seeds: runs of every row with its best settings.
        first_seed: of the search and the first run.
    """

    study: Study
    dataset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    grids: Mapping[str, Grid] = field(default_factory=dict)
    n_trials: int = 9
    n_seeds: int = 3
    first_seed: int = 2020


def check(plan: Plan) -> Plan:
    """Find what is wrong with a plan before anything is run: a typo in the last row's settings, too.

    Returns:
        The plan with rows that have all their settings, the points to try, and the data that they read.

    Raises:
        UserError: the plan, the data or a model's settings cannot be used.
    """
    _check_numbers(plan)
    own, variants = plan.study.variants, []
    for variant in own:
        given = {**readable(variant.model, plan.dataset, plan.settings), **variant.settings}
        variants.append(_with_first_stage(replace(variant, settings=given), plan.dataset))
    _refuse_unread(plan, plan.settings, [variant.settings for variant in variants])
    configs = [Config(variant.model, plan.dataset, config_dict=variant.settings) for variant in variants]
    for variant, config in zip(variants, configs, strict=True):
        if not config["eval_step"]:
            raise UserError(f"{variant.label} would be trained without validation: eval_step must be 1 or more")
    grids = [_readable_grid(plan, *pair) for pair in zip(variants, configs, strict=True)] if plan.grids else []
    given = {key: values[0] for grid in plan.grids.values() for key, values in grid.items() if key != FACTORS}
    _refuse_unread(plan, given, grids or [given])
    variants = [
        replace(variant, points=tuple(_points(plan, variant, grid)))
        for variant, grid in zip(variants, grids or [{}] * len(variants), strict=True)
    ]
    subject = next(new.label for old, new in zip(own, variants, strict=True) if old.label == plan.study.subject)
    study = replace(plan.study, variants=tuple(_with_data(variants, configs)), subject=subject)
    return replace(plan, study=study)


def _check_numbers(plan: Plan) -> None:
    labels = [variant.label for variant in plan.study.variants]
    if len(set(labels)) < len(labels):
        raise UserError(f"two rows have the same name: {', '.join(labels)}")
    if plan.n_seeds < 1:
        raise UserError(f"seeds is {plan.n_seeds}: it must be 1 or more")
    if not 0 <= plan.first_seed <= 2**32 - plan.n_seeds:
        raise UserError(f"first_seed is {plan.first_seed}: seeds are whole numbers in [0, 2^32)")
    if plan.n_trials < 0:
        raise UserError(f"trials is {plan.n_trials}: every model needs one at least, or 0 for no search")
    of_rows = [variant.settings for variant in plan.study.variants]
    if any("seed" in settings for settings in (plan.settings, *plan.grids.values(), *of_rows)):
        raise UserError("seed is a list here: give --seeds (how many) and --first_seed")


def readable(model: str, dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``settings`` that a model reads."""
    read = Config(model, dataset, config_dict=settings, drop_unread=True).external_config_dict
    return {key: value for key, value in settings.items() if key in read}


def _refuse_unread(plan: Plan, settings: Mapping[str, Any], read: Sequence[Mapping[str, Any]]) -> None:
    """Raise a ``UserError`` if a setting is among none of ``read``."""
    unread = {key: value for key, value in settings.items() if all(key not in row for row in read)}
    if unread:
        Config(plan.study.variants[-1].model, plan.dataset, config_dict=unread)  # which says what was meant


def _with_first_stage(variant: Variant, dataset: str) -> Variant:
    """A row with the first stage that its model has: without it a baseline is weaker than it is, or called so."""
    config = Config(variant.model, dataset, config_dict=variant.settings)
    if not config.spec.first_stage or config["pretrained_path"]:
        return variant
    if "training" not in variant.settings:
        return replace(variant, settings={**variant.settings, "training": "two_stage"})
    from_scratch = config["training"] == "finetune" or not config["pretrain_epochs"]
    if not from_scratch or "scratch" in variant.label or "pre-training" in variant.label:
        return variant
    return replace(variant, label=f"{variant.label} (from scratch)")


def _readable_grid(plan: Plan, variant: Variant, config: Config) -> Grid:
    """The settings of the grid that a row's model reads."""
    grid = grid_of(plan.grids, config)
    keys = readable(variant.model, plan.dataset, {key: values[0] for key, values in grid.items()})
    return {key: grid[key] for key in keys}


def _points(plan: Plan, variant: Variant, grid: Grid) -> list[dict[str, Any]]:
    """The points to try for a row.

    Raises:
        UserError: a model refuses a value, or the row has the setting given.
    """
    for key in grid:
        if key in variant.settings:
            raise UserError(
                f"{key} is given for {variant.label} and searched as well: leave it out, or give a --grid without "
                "it, or --trials=0"
            )
    points = drawn_points(grid, plan.n_trials, plan.first_seed)
    for point in points:
        Config(variant.model, plan.dataset, config_dict={**variant.settings, **point})
    return points


def _with_data(variants: Sequence[Variant], configs: Sequence[Config]) -> list[Variant]:
    """The rows with the fingerprints of the data that they read.

    Raises:
        UserError: the data cannot be used, or two rows would not be tested alike.
    """
    known, tests, counts = [], [], []
    for variant, config in zip(variants, configs, strict=True):
        data = loading.load(config)
        known.append(replace(variant, data=data.fingerprint))
        size = size_of(data.dataset)
        tests.append({**_chosen_by(config), **tested_on(data.fingerprint, size)})
        counts.append((size, len(data.evaluated[1])))
    first = variants[0].label
    for variant, test, (size, n_tested) in zip(variants, tests, counts, strict=True):
        differing = [key for key, value in test.items() if tests[0][key] != value]
        if size == counts[0][0] and n_tested != counts[0][1]:
            raise UserError(
                f"the rows would be tested on different users ({first} on {counts[0][1]:,}, {variant.label} on "
                f"{n_tested:,}): general models test those with two interactions, too; leave them out for all with "
                '--user_inter_num_interval="[3,inf)"'
            )
        if differing:
            raise UserError(
                f"{variant.label} and {first} cannot be compared: they differ in {', '.join(differing)} "
                f"({first}: {describe_size(counts[0][0])}; {variant.label}: {describe_size(size)})"
            )
    return known


def _chosen_by(config: Config) -> dict[str, Any]:
    """Settings that rows must share for their metrics to be chosen and tested alike."""
    settings = evaluation_settings(config)
    del settings["MAX_ITEM_LIST_LENGTH"]  # models may read different lengths of a history
    return {**settings, **{key: config[key] for key in ("metrics", "topk", "valid_metric")}}
