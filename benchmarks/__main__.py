"""``python -m benchmarks NAME [NAME...]``: measure, print a table, and write JSON if asked."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from benchmarks import evaluation, loading, preparation, recipe, scale, training
from benchmarks.context import Context
from benchmarks.measure import progress
from benchmarks.rows import Row, table, write_json
from recbole_msm4sr.core.errors import UserError

_MODULES = (training, evaluation, loading, recipe, scale, preparation)
BENCHMARKS = {benchmark.name: benchmark for module in _MODULES for benchmark in module.BENCHMARKS}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line tool; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(BENCHMARKS))
        return 0
    try:
        chosen = select(options.names)
        context = Context(options.data_path.resolve(), options.quick, options.budget)
        rows = run(chosen, context, options.json and options.json.resolve())
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    return 0


def select(names: Sequence[str]) -> list[str]:
    """Benchmarks that the names stand for, in the order of the list; no name stands for all.

    A name is a benchmark's own, or the first words of some: ``pretrain`` selects all that begin with it.

    Raises:
        UserError: a name stands for none.
    """
    chosen = set() if names else set(BENCHMARKS)
    for name in names:
        matching = {own for own in BENCHMARKS if own == name or own.startswith((f"{name} ", f"{name},"))}
        if name in BENCHMARKS:
            matching = {name}
        if not matching:
            near = difflib.get_close_matches(name, BENCHMARKS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "--list shows them"
            raise UserError(f"there is no benchmark {name!r}: {hint}")
        chosen |= matching
    return [name for name in BENCHMARKS if name in chosen]


def run(names: Sequence[str], context: Context, file: Path | None = None) -> list[Row]:
    """Run benchmarks one after the other, in a temporary folder: trainers leave files where they run.

    Args:
        names: of benchmarks.
        context: how to run them.
        file: JSON file of the rows so far, written before and after every benchmark.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name in names:
            if file:
                write_json(rows, file)
            progress(name)
            began = perf_counter()
            rows += BENCHMARKS[name](context)
            progress(f"  {perf_counter() - began:,.0f} s")
        if file:
            write_json(rows, file)
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a benchmark, or its first words; default all")
    parser.add_argument("--list", action="store_true", help="show the names")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--quick", action="store_true", help="tiny data: shows that it works, measures nothing")
    parser.add_argument(
        "--data-path", type=Path, default=Path("dataset"), metavar="FOLDER", help="data sets; generated ones stay there"
    )
    parser.add_argument(
        "--budget", type=float, default=1800.0, metavar="SECONDS", help="training time of the literal version (recipe)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
