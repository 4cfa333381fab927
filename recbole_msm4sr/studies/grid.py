"""Grids of settings: read from YAML, reduced to a model's settings, and drawn from."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from recbole.utils import ModelType

from recbole_msm4sr.config import registry
from recbole_msm4sr.config.yaml_file import read_yaml
from recbole_msm4sr.core.errors import UserError

Grid = Mapping[str, Sequence[Any]]
#: Section of a grid for models that do not read sequences.
GENERAL = "general"
FACTORS = "reg_weight_factors"
_MOST_SHUFFLED = 2**16


def read_grid(path: str | os.PathLike[str]) -> dict[str, Grid]:
    """Read a grid: ``setting: [values]``, and sections of them that replace those for some models.

    Returns:
        The grids by the name of their section, ``general`` or a model's; ``""`` has what is in no section.

    Raises:
        UserError: it is not such a file.
    """
    content = read_yaml(path)
    sections = {name: values for name, values in content.items() if isinstance(values, Mapping)}
    grids = {"": {name: values for name, values in content.items() if name not in sections}, **sections}
    for section, grid in grids.items():
        if section not in ("", GENERAL):
            registry.find(section)
        for name, values in grid.items():
            is_list = isinstance(values, list) and len(values) > 0
            if not isinstance(name, str) or not is_list or not all(map(_is_plain, values)):
                raise UserError(
                    f"{path}: {name!r} must have a list of one value or more, such as [0.001, 0.01]: "
                    "numbers, words, or lists of them"
                )
        if not all(isinstance(factor, (int, float)) and factor > 0 for factor in grid.get(FACTORS, [])):
            raise UserError(f"{path}: {FACTORS} must be numbers above 0")
    if not grids[""]:
        raise UserError(f"{path} holds no settings to search: write setting: [values], or give --trials=0")
    return grids


def _is_plain(value: Any) -> bool:
    """Whether a value of a grid can be a setting: finite, and at most a list."""
    if isinstance(value, list):
        return not any(isinstance(item, list) for item in value) and all(map(_is_plain, value))
    return isinstance(value, (str, bool, int)) or value is None or (isinstance(value, float) and math.isfinite(value))


def grid_of(grids: Mapping[str, Grid], config: Any) -> Grid:
    """The grid for a model.

    A general model with a ``reg_weight``, the regularisation of its own paper, is searched for that in place of
    ``weight_decay``, with which graph models hardly learn: for its own value times the grid's ``reg_weight_factors``.

    Args:
        config: the model's, with its own defaults.
    """
    is_general = config["MODEL_TYPE"] != ModelType.SEQUENTIAL
    grid = {**grids[""], **(grids.get(GENERAL, {}) if is_general else {}), **grids.get(config["model"], {})}
    factors, own = grid.pop(FACTORS, None), config["reg_weight"]
    if factors and isinstance(own, (int, float)) and own > 0 and "reg_weight" not in grid:
        grid.pop("weight_decay", None)
        grid["reg_weight"] = [float(f"{factor * own:.6g}") for factor in factors]
    return grid


def drawn_points(grid: Grid, n_trials: int, seed: int) -> list[dict[str, Any]]:
    """``n_trials`` points of a grid in random order, without repetition; all of them if there are no more.

    They are the first of the points of any larger ``n_trials``. The grid is not expanded: points are numbered, the last
    setting counting fastest, and numbers are drawn.
    """
    if not grid:
        return []
    total = math.prod(len(values) for values in grid.values())
    numbers: list[int] = []
    if total <= _MOST_SHUFFLED:
        numbers = np.random.default_rng(seed).permutation(total)[:n_trials].tolist()
    else:
        generator, seen = random.Random(seed), set()
        while len(numbers) < min(n_trials, total):
            number = generator.randrange(total)
            if number not in seen:
                seen.add(number)
                numbers.append(number)
    return [_point(grid, number) for number in numbers]


def _point(grid: Grid, number: int) -> dict[str, Any]:
    point = {}
    for name, values in reversed(list(grid.items())):
        number, index = divmod(number, len(values))
        point[name] = values[index]
    return {name: point[name] for name in grid}
