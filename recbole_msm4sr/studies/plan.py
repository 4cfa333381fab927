"""Checks of a study before anything is run, which complete the settings of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data import loading
from recbole_msm4sr.evaluation.comparison import Row
from recbole_msm4sr.evaluation.run_table import describe_size, evaluation_settings, size_of, tested_on
from recbole_msm4sr.studies.experiments import Study
from recbole_msm4sr.studies.grid import FACTORS, Grid, drawn_points, grid_of


def check(study: Study) -> Study:
    """Check a study before anything is run, down to a typo in the last row's settings.

    Returns:
        The study with rows that have all their settings, the points to try, and the data that they read.

    Raises:
        UserError: the study, the data or a model's settings cannot be used.
    """
    _check_numbers(study)
    rows = [_with_settings(study, row) for row in study.rows]
    _refuse_unread(study, study.settings, [row.settings for row in rows])
    configs = [Config(row.model, study.dataset, config_dict=row.settings) for row in rows]
    for row, config in zip(rows, configs, strict=True):
        if not config["eval_step"]:
            raise UserError(f"{row.label} would be trained without validation: eval_step must be 1 or more")
    if study.grids:
        grids = [_readable_grid(study, row, config) for row, config in zip(rows, configs, strict=True)]
        given = {key: values[0] for grid in study.grids.values() for key, values in grid.items() if key != FACTORS}
        _refuse_unread(study, given, [{key: None for grid in grids for key in grid}])
        rows = [replace(row, points=_points(study, row, grid)) for row, grid in zip(rows, grids, strict=True)]
    subject = next(new.label for old, new in zip(study.rows, rows, strict=True) if old.label == study.subject)
    return replace(study, rows=_with_data(rows, configs), subject=subject)


def _check_numbers(study: Study) -> None:
    labels = [row.label for row in study.rows]
    if len(set(labels)) < len(labels):
        raise UserError(f"two rows have the same name: {', '.join(labels)}")
    if study.n_seeds < 1:
        raise UserError(f"seeds is {study.n_seeds}: it must be 1 or more")
    if not 0 <= study.first_seed <= 2**32 - study.n_seeds:
        raise UserError(f"first_seed is {study.first_seed}: seeds are whole numbers in [0, 2^32)")
    if study.n_trials < 0:
        raise UserError(f"trials is {study.n_trials}: every model needs one at least, or 0 for no search")
    if any("seed" in given for given in (study.settings, *study.grids.values(), *(row.settings for row in study.rows))):
        raise UserError("seed is a list here: give --seeds (how many) and --first_seed")


def _with_settings(study: Study, row: Row) -> Row:
    """A row with the common settings that its model reads, and with the first stage that its model has.

    Without its first stage a baseline would look weaker than it is; a row that is trained without it says so.
    """
    row = replace(row, settings={**readable(row.model, study.dataset, study.settings), **row.settings})
    config = Config(row.model, study.dataset, config_dict=row.settings)
    if config["training"] is None or config["pretrained_path"]:
        return row
    if "training" not in row.settings:
        return replace(row, settings={**row.settings, "training": "two_stage"})
    from_scratch = config["training"] == "finetune" or not config["pretrain_epochs"]
    if not from_scratch or "scratch" in row.label or "pre-training" in row.label:
        return row
    return replace(row, label=f"{row.label} (from scratch)")


def readable(model: str, dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``settings`` that a model reads."""
    read = Config(model, dataset, config_dict=settings, drop_unread=True).external_config_dict
    return {key: value for key, value in settings.items() if key in read}


def _refuse_unread(study: Study, settings: Mapping[str, Any], read: Sequence[Mapping[str, Any]]) -> None:
    """Raise a ``UserError`` if a setting is among none of ``read``."""
    unread = {key: value for key, value in settings.items() if all(key not in of_row for of_row in read)}
    if unread:
        Config(study.rows[-1].model, study.dataset, config_dict=unread)  # which says what was meant


def _readable_grid(study: Study, row: Row, config: Config) -> Grid:
    """The settings of the grid that a row's model reads."""
    grid = grid_of(study.grids, config)
    keys = readable(row.model, study.dataset, {key: values[0] for key, values in grid.items()})
    return {key: grid[key] for key in keys}


def _points(study: Study, row: Row, grid: Grid) -> list[dict[str, Any]]:
    """The points to try for a row.

    Raises:
        UserError: a model refuses a value, or the row has the setting given.
    """
    for key in grid:
        if key in row.settings:
            raise UserError(
                f"{key} is given for {row.label} and searched as well: leave it out, or give a --grid without it, or "
                "--trials=0"
            )
    points = drawn_points(grid, study.n_trials, study.first_seed)
    for point in points:
        Config(row.model, study.dataset, config_dict={**row.settings, **point})
    return points


def _with_data(rows: Sequence[Row], configs: Sequence[Config]) -> list[Row]:
    """The rows with the fingerprints of the data that they read.

    Raises:
        UserError: the data cannot be used, or two rows would not be tested alike.
    """
    known, first = [], None
    for row, config in zip(rows, configs, strict=True):
        data = loading.load(config)
        known.append(replace(row, data=data.fingerprint))
        size, n_tested = size_of(data.dataset), len(data.evaluated[1])
        tested = {**_chosen_by(config), **tested_on(data.fingerprint, size)}
        first = first or (row.label, size, n_tested, tested)
        other, size_of_other, n_of_other, tested_of_other = first
        if size == size_of_other and n_tested != n_of_other:
            raise UserError(
                f"the rows would be tested on different users ({other} on {n_of_other:,}, {row.label} on "
                f"{n_tested:,}): general models test those with two interactions, too; leave them out for all with "
                '--user_inter_num_interval="[3,inf)"'
            )
        differing = [key for key, value in tested.items() if tested_of_other.get(key) != value]
        if differing:
            raise UserError(
                f"{row.label} and {other} cannot be compared: they differ in {', '.join(differing)} "
                f"({other}: {describe_size(size_of_other)}; {row.label}: {describe_size(size)})"
            )
    return known


def _chosen_by(config: Config) -> dict[str, Any]:
    """Settings that rows must share for their metrics to be chosen and tested alike."""
    settings = evaluation_settings(config)
    del settings["MAX_ITEM_LIST_LENGTH"]  # models may read different lengths of a history
    return {**settings, **{key: config[key] for key in ("metrics", "topk", "valid_metric")}}
