"""Compare models fairly: one split, one budget of search on validation for each, several seeds, paired tests."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import DivergedError
from recbole_msm4sr.studies.cells import Cell, Cells, Variant
from recbole_msm4sr.studies.comparison import Comparison, Row, p_values
from recbole_msm4sr.studies.plan import Plan, check, readable_grid
from recbole_msm4sr.studies.search import Search, drawn_points
from recbole_msm4sr.studies.sharing import busy_last


def compare(plan: Plan, out: Path) -> Comparison:
    """Carry a plan out; what ``out`` holds of it already is not done again.

    Raises:
        DivergedError: the subject led to NaN whatever the setting or the seed.
        UserError: the plan, the data or a model's settings cannot be used.
    """
    variants, configs = check(plan)
    cells = Cells(out / "cells", plan.dataset)
    search = None
    if plan.grid:
        bigger = configs[0]["valid_metric_bigger"]
        search = Search(out / "search.journal", cells, plan.n_trials, plan.first_seed, bigger=bigger)
    subject = next(variant for variant in variants if variant.label == plan.subject)
    rows: dict[str, Row | None] = {}

    def fill(number: int, wait: bool) -> None:
        variant = variants[number]
        getLogger(__name__).info(f"{variant.label} ({number + 1} of {len(variants)})")
        try:
            rows[variant.label] = _row(plan, variant, subject if plan.tune_once else variant, cells, search, wait)
        except DivergedError as error:
            if variant is subject:
                raise
            getLogger(__name__).info(f"{error}; its row is left out")
            rows[variant.label] = None

    busy_last(range(len(variants)), fill)
    done = [row for variant in variants if (row := rows[variant.label])]
    diverged = [variant.label for variant in variants if not rows[variant.label]]
    return Comparison(plan, done, p_values(done, plan.subject), diverged)


def _row(plan: Plan, variant: Variant, tuned: Variant, cells: Cells, search: Search | None, wait: bool) -> Row:
    """Choose a variant's settings, then run and test it with them.

    Args:
        tuned: the variant whose settings are searched for.
        search: ``None``: no search.
        wait: whether to wait for runs that another process is at.

    Raises:
        BlockingIOError: another process is at some of the runs, and ``wait`` is false.
        DivergedError: it diverged with all settings or with every seed.
        UserError: what a run raises.
    """
    grid = readable_grid(plan, tuned)
    chosen = search.best(tuned, grid, wait=wait) if search and grid else {}
    tested: dict[int, Cell | None] = {}

    def test(seed: int, wait: bool) -> None:
        try:
            tested[seed] = cells.get(variant, chosen, seed, test=True, wait=wait)
        except DivergedError:
            tested[seed] = None

    seeds = range(plan.first_seed, plan.first_seed + plan.n_seeds)
    busy_last(seeds, test, wait=wait)
    done = {seed: cell for seed in seeds if (cell := tested[seed])}
    if not done:
        raise DivergedError(f"{variant.label} diverged with every seed: give it a lower learning rate")
    n_tried = len(drawn_points(grid, plan.n_trials, plan.first_seed)) if search and grid else 0
    configuration = Config(variant.model, plan.dataset, config_dict={**variant.settings, **chosen}).resolved
    return Row(variant, chosen, n_tried, configuration, done, [seed for seed in seeds if seed not in done])
