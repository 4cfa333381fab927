"""``msm4sr compare`` and ``msm4sr study``: a study starts here. Plan, check, run, report."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recbole_msm4sr.config import registry
from recbole_msm4sr.config.arguments import take_config_files
from recbole_msm4sr.config.load import PROPERTIES
from recbole_msm4sr.config.yaml_file import parse_scalar, read_yaml
from recbole_msm4sr.core.command import Parser
from recbole_msm4sr.core.distributed import world_size
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.evaluation.comparison import Row
from recbole_msm4sr.studies.experiments import SUBJECT, Study, studies
from recbole_msm4sr.studies.grid import read_grid
from recbole_msm4sr.studies.plan import check, readable

CROSS_DOMAIN = "cross-domain"
_SETTINGS = (
    "Further --key=value are settings of all rows that read them, --LABEL.key=value of one; values are YAML. "
    "--config_files=a.yaml b.yaml are files of common settings. Finished "
    "runs in --out are not repeated, and several processes may work on one --out."
)


def main(argv: Sequence[str]) -> int:
    """Run ``compare ...`` or ``study NAME ...``; the exit code is 0.

    Raises:
        UserError: arguments, settings or data that cannot be used.
    """
    if world_size() > 1:
        raise UserError(
            "torchrun cannot run studies: leave it out, and start the same command several times to share the work"
        )
    study, arguments = read_command(argv)
    out = _out(arguments)
    _log_to_console()
    try:
        from recbole_msm4sr.studies.report import write_report
    except ModuleNotFoundError as error:
        raise UserError(f'studies need {error.name}: pip install "recbole-msm4sr[study]"') from error
    from recbole_msm4sr.studies.runner import compare

    checked = check(study)
    if arguments.name == CROSS_DOMAIN:
        checked = check(_with_settings(study, _pretrained(study, arguments.source)))
    comparison, diverged = compare(checked, out)
    text = write_report(comparison, diverged, checked, out)  # before it is printed, which may fail on some terminals
    print(text, end="")
    print(f"\n{out}: table.md, table.csv, table.json, report.json, plot.png", file=sys.stderr)
    return 0


def read_command(argv: Sequence[str]) -> tuple[Study, argparse.Namespace]:
    """The study that a command line asks for, unchecked, and the command's own options.

    Raises:
        UserError: a word or a file that cannot be read.
    """
    config_files, words = take_config_files(argv)
    arguments, rest = _parser().parse_known_args(words)
    study = _study(arguments)
    common, of_row = _settings(rest, [row.label for row in study.rows])
    of_files = {key: value for path in config_files for key, value in read_yaml(path).items()}  # the later file wins
    study = replace(
        _with_settings(study, of_row),
        dataset=arguments.dataset,
        settings={**of_files, **common},
        grids=read_grid(arguments.grid or PROPERTIES / "study" / "grid.yaml") if arguments.trials else {},
        n_trials=arguments.trials,
        n_seeds=study.n_seeds if arguments.seeds is None else arguments.seeds,
        first_seed=arguments.first_seed,
    )
    return study, arguments


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="msm4sr", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{compare,study}")
    compare = commands.add_parser(
        "compare", help="models, tuned alike, over several seeds", epilog=_SETTINGS, allow_abbrev=False
    )
    compare.add_argument(
        "--models",
        required=True,
        metavar="A,B,...",
        help="the rows, each a model or LABEL=MODEL; MSM4SR or the last is the subject",
    )
    compare.set_defaults(name="compare")
    study = commands.add_parser("study", help="one of the paper's experiments", epilog=_SETTINGS, allow_abbrev=False)
    names = sorted(studies())
    study.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    study.add_argument("--source", metavar="DATASET", help=f"{CROSS_DOMAIN}: the data set to pre-train on")
    for command in (compare, study):
        command.add_argument("--dataset", required=True)
        command.add_argument("--seeds", type=int, help="runs of every row (default: 3; convergence: 5)")
        command.add_argument("--first_seed", type=int, default=2020, help="(default: %(default)s)")
        command.add_argument(
            "--trials", type=int, default=9, help="settings tried for every row; 0: none (default: %(default)s)"
        )
        command.add_argument("--grid", metavar="FILE", help="YAML, setting: [values] (default: the paper's)")
        command.add_argument("--out", metavar="DIR", help="(default: studies/DATASET/NAME)")
    return parser


def _study(arguments: argparse.Namespace) -> Study:
    if arguments.command == "study":
        study = studies()[arguments.name]
        if arguments.name != CROSS_DOMAIN:
            return study
        if not arguments.source:
            raise UserError(f"{CROSS_DOMAIN} pre-trains on another data set: give --source=DATASET")
        return replace(study, title=f"Cross-domain: {arguments.source} to {arguments.dataset} (table VI)")
    rows = _rows(arguments.models)
    labels = [row.label for row in rows]
    subject = SUBJECT if SUBJECT in labels else labels[-1]
    paper = "II" if subject == SUBJECT else None
    return Study(f"Comparison on {arguments.dataset}", rows, subject, paper=paper)


def _rows(models: str) -> list[Row]:
    """Rows of ``A,B`` or, with labels of one's own, ``A,label=B``.

    Raises:
        UserError: there are none, or one cannot be read.
    """
    rows = []
    for word in filter(None, map(str.strip, models.split(","))):
        label, equals, model = (part.strip() for part in word.partition("="))
        if (equals and not (label and model)) or not word.isprintable() or set(label) & set(".|"):
            raise UserError(f"cannot read the row {word!r} of --models: write MODEL, or LABEL=MODEL without . and |")
        rows.append(Row(label, model or label))
    if not rows:
        raise UserError("there are no models to compare: give --models=A,B")
    return rows


def _with_settings(study: Study, of_row: Mapping[str, Mapping[str, Any]]) -> Study:
    """The study with more settings of single rows, by label."""
    rows = [replace(row, settings={**row.settings, **of_row.get(row.label, {})}) for row in study.rows]
    return replace(study, rows=rows)


def _settings(words: Sequence[str], labels: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """``--key=value`` for all rows, and ``--LABEL.key=value`` by label, which may hold a ``=`` itself."""
    common: dict[str, Any] = {}
    of_row: dict[str, dict[str, Any]] = {}
    for word in words:
        text = word.removeprefix("--")
        label = max((label for label in labels if text.startswith(f"{label}.")), key=len, default="")
        key, equals, value = (text.removeprefix(f"{label}.") if label else text).partition("=")
        if not word.startswith("--") or not equals or not key:
            raise UserError(f"cannot read the argument {word!r}: settings are written --key=value")
        if "." in key:
            raise UserError(f"there is no row {key.rpartition('.')[0]!r}: rows are {', '.join(labels)}")
        target = of_row.setdefault(label, {}) if label else common
        if key in target:
            raise UserError(f"{text.partition('=')[0]!r} is given twice")
        target[key] = parse_scalar(value)
    return common, of_row


def _out(arguments: argparse.Namespace) -> Path:
    """The folder of the report.

    Raises:
        UserError: it cannot be one, or is above the current folder.
    """
    given = f"studies/{arguments.dataset}/{arguments.name}" if arguments.out is None else arguments.out
    out = Path(given)
    is_above = out.resolve() in Path.cwd().parents
    if not given or not given.isprintable() or is_above or (out.exists() and not out.is_dir()):
        raise UserError(f"--out={given!r} cannot be the folder of a report: name a new folder, or one below this one")
    return out


def _pretrained(study: Study, source: str) -> dict[str, dict[str, Any]]:
    """Pre-train on the source; returns the setting of the checkpoint for every row that starts from one, by label."""
    from recbole_msm4sr.training.recipe import run

    starts = {}
    for row in study.rows:
        if not row.settings.get("freeze_transformer"):
            continue
        first_stage = str(registry.find(row.model).first_stage)
        of_fine_tuning = registry.find(first_stage).stage_keys  # epochs, learning_rate, ...: stage 1 has its own
        given = {**study.settings, **row.settings}
        settings = {key: value for key, value in given.items() if key not in of_fine_tuning}
        settings = {**readable(first_stage, source, settings), "seed": study.first_seed, "resume": True}
        logging.getLogger(__name__).info(f"{first_stage} on {source}")
        result = run(first_stage, source, config_dict=settings, test=False, console=False)
        starts[row.label] = {"pretrained_path": str(Path(result["run_folder"]) / "checkpoint.pth")}
    return starts


def _log_to_console() -> None:
    """One line a trial and a row, on standard error; the runs' own logs are in their folders."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name in ("recbole_msm4sr.studies", "recbole_msm4sr.core.files"):  # the latter when it waits for another process
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
