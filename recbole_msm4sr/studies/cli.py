"""``msm4sr compare`` and ``msm4sr study``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_msm4sr.config.arguments import take_config_files
from recbole_msm4sr.core.distributed import world_size
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.studies.catalogue import STUDIES, Study, cross_domain
from recbole_msm4sr.studies.cells import Variant

if TYPE_CHECKING:  # needs the packages of the extra "study"
    from recbole_msm4sr.studies.plan import Plan

CROSS_DOMAIN = "cross-domain"
_SETTINGS = (
    "Further --key=value are settings of all rows that read them, --LABEL.key=value of one; values are YAML. "
    "--config_files=a.yaml b.yaml are files of common settings. What is "
    "done already, in --out, is not done again, and several processes may work on one --out."
)


def main(argv: Sequence[str]) -> int:
    """Run ``compare ...`` or ``study NAME ...``; the exit code is 0.

    Raises:
        UserError: arguments, settings or data that cannot be used.
    """
    config_files, words = take_config_files(argv)
    arguments, rest = _parser().parse_known_args(words)
    if world_size() > 1:
        raise UserError(
            "studies are no torchrun jobs: leave it out, and start the same command several times to share the work"
        )
    study = _study(arguments)
    common, of_row = _settings(rest, [variant.label for variant in study.variants()])
    common = {**_settings_of_files(config_files), **common}
    out = Path(arguments.out or f"studies/{arguments.dataset}/{arguments.name}")
    _log_to_console()
    try:
        from recbole_msm4sr.studies.compare import compare
        from recbole_msm4sr.studies.plan import check
        from recbole_msm4sr.studies.report import markdown, write_report
    except ModuleNotFoundError as error:
        raise UserError(f'studies need {error.name}: pip install "recbole-msm4sr[study]"') from error
    plan = _plan(arguments, study, common, of_row)
    if arguments.name == CROSS_DOMAIN:
        check(plan)  # before its first stages are run
        checkpoints = _pretrained(arguments, common, of_row, out / "source")
        study = replace(study, variants=lambda: cross_domain(checkpoints))
        plan = _plan(arguments, study, common, of_row)
    comparison = compare(plan, out)
    write_report(comparison, out, study)
    print(markdown(comparison, study), end="")
    print(f"\n{out}: table.md, table.csv, table.json, report.json, plot.png", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="msm4sr", allow_abbrev=False)
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
    names = sorted([*STUDIES, CROSS_DOMAIN])
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
    if arguments.name == CROSS_DOMAIN:
        if not arguments.source:
            raise UserError(f"{CROSS_DOMAIN} pre-trains on another data set: give --source=DATASET")
        title = f"Cross-domain: {arguments.source} to {arguments.dataset} (table VI)"
        return Study(title, lambda: cross_domain({}), tune_once=False, paper="VI")
    if arguments.command == "study":
        return STUDIES[arguments.name]
    variants = _rows(arguments.models)
    labels = [variant.label for variant in variants]
    subject = "MSM4SR" if "MSM4SR" in labels else labels[-1]
    paper = "II" if subject == "MSM4SR" else None
    return Study(f"Comparison on {arguments.dataset}", lambda: variants, subject, tune_once=False, paper=paper)


def _plan(
    arguments: argparse.Namespace, study: Study, common: dict[str, Any], of_row: Mapping[str, dict[str, Any]]
) -> Plan:
    """The study as the command line asks for it; ``common`` and ``of_row`` are its settings."""
    from recbole_msm4sr.config.yaml_file import read_yaml
    from recbole_msm4sr.studies.plan import Plan

    variants = [
        replace(variant, settings={**variant.settings, **of_row.get(variant.label, {})}) for variant in study.variants()
    ]
    grid = read_yaml(arguments.grid or _paper_grid()) if arguments.trials else {}
    if arguments.trials and not grid:
        raise UserError(f"{arguments.grid} holds no settings to search: write setting: [values], or give --trials=0")
    return Plan(
        arguments.dataset,
        variants,
        study.subject,
        settings=common,
        grid=grid,
        n_trials=arguments.trials,
        n_seeds=study.n_seeds if arguments.seeds is None else arguments.seeds,
        first_seed=arguments.first_seed,
        tune_once=study.tune_once,
    )


def _rows(models: str) -> tuple[Variant, ...]:
    """Rows of ``A,B`` or, with labels of one's own, ``A,label=B``.

    Raises:
        UserError: there are none, or one is only half written.
    """
    rows = []
    for word in filter(None, map(str.strip, models.split(","))):
        label, equals, model = (part.strip() for part in word.partition("="))
        if (equals and not (label and model)) or "." in label:
            raise UserError(f"cannot read the row {word!r} of --models: write MODEL, or LABEL=MODEL without dots")
        rows.append(Variant(label, model or label))
    if not rows:
        raise UserError("there are no models to compare: give --models=A,B")
    return tuple(rows)


def _pretrained(
    arguments: argparse.Namespace, common: dict[str, Any], of_row: Mapping[str, dict[str, Any]], out: Path
) -> dict[str, str]:
    """Pre-train on the source; returns the checkpoints by the name of the model that starts from them."""
    from recbole_msm4sr.config import registry
    from recbole_msm4sr.studies.plan import readable
    from recbole_msm4sr.studies.pretraining import pretrain

    checkpoints = {}
    for model in ("MSM4SR", "UniSRec"):
        first_stage = f"{model}Pretrain"
        of_fine_tuning = registry.find(first_stage).stage_keys  # epochs, learning_rate, ...: stage 1 has its own
        given = {**common, **of_row.get(model, {})}
        settings = {key: value for key, value in given.items() if key not in of_fine_tuning}
        settings = readable(first_stage, arguments.source, settings)
        checkpoints[model] = str(pretrain(first_stage, arguments.source, settings, arguments.first_seed, out))
    return checkpoints


def _settings(words: Sequence[str], labels: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """``--key=value`` for all rows, and ``--LABEL.key=value`` by label, which may hold a ``=`` itself."""
    from recbole_msm4sr.config.yaml_file import parse_scalar

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
            raise UserError(f"{text.partition('=')[0]} is given twice")
        target[key] = parse_scalar(value)
    return common, of_row


def _settings_of_files(paths: Sequence[str]) -> dict[str, Any]:
    """Settings of YAML files; the later file wins."""
    from recbole_msm4sr.config.yaml_file import read_yaml

    return {key: value for path in paths for key, value in read_yaml(path).items()}


def _paper_grid() -> Path:
    from recbole_msm4sr.config.yaml_file import PROPERTIES

    return PROPERTIES / "study" / "grid.yaml"


def _log_to_console() -> None:
    """One line a trial and a row, on standard error; the runs' own logs are in their folders."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name in ("recbole_msm4sr.studies", "recbole_msm4sr.core.files"):  # the latter when it waits for another process
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
