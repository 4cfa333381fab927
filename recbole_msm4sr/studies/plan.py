"""What is to be compared, and what is wrong with it before anything is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data import loading
from recbole_msm4sr.evaluation import report
from recbole_msm4sr.studies.cells import Variant
from recbole_msm4sr.studies.search import Grid, drawn_points


@dataclass(frozen=True)
class Plan:
    """What is compared, and how.

    Attributes:
        dataset: the data set's name.
        variants: the rows.
        subject: label of the row that all others are compared with.
        settings: of every row whose model reads them.
        grid: searched for every row, as far as its model reads it; empty: no search.
        n_trials: points of the grid tried for every row.
        n_seeds: runs of every row with its best settings.
        first_seed: of the search and the first run.
        tune_once: search for the subject alone and use its settings for all rows: an ablation.
    """

    dataset: str
    variants: Sequence[Variant]
    subject: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Grid = field(default_factory=dict)
    n_trials: int = 9
    n_seeds: int = 3
    first_seed: int = 2020
    tune_once: bool = False

    def check(self) -> None:
        """Raise a ``UserError`` for a plan that cannot be carried out."""
        labels = [variant.label for variant in self.variants]
        if len(set(labels)) < len(labels):
            raise UserError(f"two rows have the same name: {', '.join(labels)}")
        if self.subject not in labels:
            raise UserError(f"{self.subject} is not among the rows ({', '.join(labels)})")
        if self.n_seeds < 1:
            raise UserError(f"seeds is {self.n_seeds}: it must be 1 or more")
        if not 0 <= self.first_seed <= 2**32 - self.n_seeds:
            raise UserError(f"first_seed is {self.first_seed}: seeds are whole numbers in [0, 2^32)")
        given = (self.settings, self.grid, *(variant.settings for variant in self.variants))
        if any("seed" in settings for settings in given):
            raise UserError("seed is a list here: give --seeds (how many) and --first_seed")
        if self.grid:
            drawn_points(self.grid, self.n_trials, self.first_seed)


def check(plan: Plan) -> tuple[list[Variant], list[Config]]:
    """Find what is wrong with a plan before anything is run: a typo in the last row's settings, too.

    Returns:
        The plan's variants with all their settings and the data that they read, and their configurations.

    Raises:
        UserError: the plan, the data or a model's settings cannot be used.
    """
    plan.check()
    variants = _with_common_settings(plan)
    configs = [Config(variant.model, plan.dataset, config_dict=variant.settings) for variant in variants]
    for variant, config in zip(variants, configs, strict=True):
        if not config["eval_step"]:
            raise UserError(f"{variant.label} would be trained without validation: eval_step must be 1 or more")
    _check_grid(plan, variants)
    return _with_data(variants, configs), configs


def _with_common_settings(plan: Plan) -> list[Variant]:
    """The variants with those of the common settings that their models read; a row's own settings win.

    Raises:
        UserError: no row reads a common setting.
    """
    variants = [
        replace(variant, settings={**readable(variant.model, plan.dataset, plan.settings), **variant.settings})
        for variant in plan.variants
    ]
    unread = {key: value for key, value in plan.settings.items() if all(key not in v.settings for v in variants)}
    if unread:
        Config(variants[-1].model, plan.dataset, config_dict=unread)  # which says what was meant
    return variants


def readable_grid(plan: Plan, variant: Variant) -> Grid:
    """The settings of the grid that a row's model reads."""
    keys = readable(variant.model, plan.dataset, {key: values[0] for key, values in plan.grid.items()})
    return {key: plan.grid[key] for key in keys}


def _check_grid(plan: Plan, variants: Sequence[Variant]) -> None:
    """Find values of the grid that a row cannot have before anything is run.

    Raises:
        UserError: no row reads a setting, a model refuses a value, or a row has the setting given.
    """
    grids = [readable_grid(plan, variant) for variant in variants]
    unread = {key: values[0] for key, values in plan.grid.items() if all(key not in grid for grid in grids)}
    if unread:
        Config(variants[-1].model, plan.dataset, config_dict=unread)  # which says what was meant
    for variant, grid in zip(variants, grids, strict=True):
        for key in grid:
            if key in variant.settings:
                raise UserError(
                    f"{key} is given for {variant.label} and searched as well: leave it out, or give a --grid without "
                    "it, or --trials=0"
                )
        for point in drawn_points(grid, plan.n_trials, plan.first_seed) if grid else []:
            Config(variant.model, plan.dataset, config_dict={**variant.settings, **point})


def _with_data(variants: Sequence[Variant], configs: Sequence[Config]) -> list[Variant]:
    """The variants with the fingerprints of the data that they read.

    Raises:
        UserError: the data cannot be used, or two rows would not be tested alike.
    """
    known, tested = [], []
    for variant, config in zip(variants, configs, strict=True):
        data = loading.load(config)
        known.append(replace(variant, data=data.fingerprint))
        tested.append(len(data.evaluated[1]))
    first = _tested_by(known[0], configs[0])
    for variant, config in zip(known, configs, strict=True):
        own = _tested_by(variant, config)
        differing = [key for key in first if own[key] != first[key]]
        if differing:
            raise UserError(
                f"{variant.label} and {known[0].label} cannot be compared: they differ in {', '.join(differing)}"
            )
    if len(set(tested)) > 1:
        counts = ", ".join(f"{variant.label} on {n:,}" for variant, n in zip(known, tested, strict=True))
        raise UserError(
            f"the rows would be tested on different users ({counts}): general models test those with two interactions, "
            'too; leave them out for all with --user_inter_num_interval="[3,inf)"'
        )
    return known


def _tested_by(variant: Variant, config: Config) -> dict[str, Any]:
    """What rows must share for their metrics to be of the same users and items, and chosen alike."""
    settings = report.evaluation_settings(config)
    del settings["MAX_ITEM_LIST_LENGTH"]  # how much of a history a model reads is its own affair
    keys = ("metrics", "topk", "valid_metric")
    return {"interactions": variant.data["interactions"], **settings, **{key: config[key] for key in keys}}


def readable(model: str, dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``settings`` that a model reads."""
    read = Config(model, dataset, config_dict=settings, drop_unread=True).external_config_dict
    return {key: value for key, value in settings.items() if key in read}
