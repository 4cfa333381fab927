"""Compare models fairly: one split, one budget of search on validation for each, several seeds, paired tests."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_msm4sr.config import Config
from recbole_msm4sr.errors import DivergedError
from recbole_msm4sr.studies.cells import Cell, Cells, Variant
from recbole_msm4sr.studies.comparison import Comparison, Row, p_values
from recbole_msm4sr.studies.plan import Plan, check, readable_grid
from recbole_msm4sr.studies.search import Search, drawn_points


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
    rows, diverged = [], []
    for number, variant in enumerate(variants, start=1):
        getLogger(__name__).info(f"{variant.label} ({number} of {len(variants)})")
        tuned = subject if plan.tune_once else variant
        grid = readable_grid(plan, tuned)
        try:
            chosen = search.best(tuned, grid) if search and grid else {}
            tested = _run_seeds(plan, variant, chosen, cells)
        except DivergedError as error:
            if variant is subject:
                raise
            getLogger(__name__).info(f"{error}; its row is left out")
            diverged.append(variant.label)
            continue
        n_tried = len(drawn_points(grid, plan.n_trials, plan.first_seed)) if search and grid else 0
        configuration = Config(variant.model, plan.dataset, config_dict={**variant.settings, **chosen}).resolved
        done = {seed: cell for seed, cell in tested.items() if cell is not None}
        rows.append(Row(variant, chosen, n_tried, configuration, done, sorted(set(tested) - set(done))))
    return Comparison(plan, rows, p_values(rows, plan.subject), diverged)


def _run_seeds(plan: Plan, variant: Variant, chosen: Mapping[str, Any], cells: Cells) -> dict[int, Cell | None]:
    """Run and test a variant with its best settings.

    Returns:
        The cell of every seed, in their order; ``None`` of one that diverged.

    Raises:
        DivergedError: it diverged with every seed.
        UserError: what a run raises.
    """
    tested: dict[int, Cell | None] = {}
    missing = list(range(plan.first_seed, plan.first_seed + plan.n_seeds))
    for wait in (False, True):  # what another process is at comes last
        for seed in list(missing):
            try:
                tested[seed] = cells.get(variant, chosen, seed, test=True, wait=wait)
            except BlockingIOError:
                continue
            except DivergedError:
                tested[seed] = None
            missing.remove(seed)
    if not any(tested.values()):
        raise DivergedError(f"{variant.label} diverged with every seed: give it a lower learning rate")
    return dict(sorted(tested.items()))
