"""Command lines: ``run_recbole.py`` and the console script ``msm4sr``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from recbole_msm4sr import __version__
from recbole_msm4sr.config.arguments import take_config_files
from recbole_msm4sr.config.yaml_file import parse_scalar
from recbole_msm4sr.core.command import Parser, importing, run_command
from recbole_msm4sr.core.errors import UserError, shown

USAGE = """\
usage: msm4sr [run] --model=MODEL --dataset=DATASET [--config_files=a.yaml b.yaml] [--resume] [--key=value ...]
       msm4sr compare --models=A,B --dataset=DATASET [--seeds=3] [--trials=9] [--out=DIR] [--key=value ...]
       msm4sr study NAME --dataset=DATASET ...   (msm4sr study --help)
       msm4sr settings MODEL                     all settings of a model: default, range, the paper's value
       msm4sr features import|info|check ...     (msm4sr features --help)
       msm4sr clean [FOLDER ...] [--interrupted] remove what killed commands left

MODEL is MSM4SR, MSM4SRPretrain, SASRecM, UniSRec, UniSRecPretrain, DIFSR, MVRNN, GRCN, DualGNN, CLCRec, or any general
or sequential model of RecBole.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for input that cannot be used, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    resume = "" if words and words[0] in ("compare", "study", "settings", "features", "clean") else " with --resume"
    hint = f"the same command{resume} goes on where it stopped"
    return run_command("msm4sr", lambda: _dispatch(words), if_interrupted=hint)


def _dispatch(argv: list[str]) -> int:
    """Call the command with its words; each imports only what it needs, since torch alone takes seconds."""
    command, *words = argv or [""]
    if command == "features":
        with importing("msm4sr"):
            from recbole_msm4sr.data import features_cli

        return features_cli.main(words)
    if command in ("compare", "study"):
        with importing("msm4sr"):
            from recbole_msm4sr.studies import cli as studies_cli

        return studies_cli.main(argv)
    if command == "clean":
        with importing("msm4sr"):
            from recbole_msm4sr.training import clean

        return clean.main(words)
    if command == "settings":
        return _settings(words)
    if command and command != "run" and not command.startswith("-"):
        raise UserError(
            f"there is no command {shown(command)}: run, compare, study, settings, features, clean; settings are "
            "--key=value"
        )
    return _run(words if command == "run" else argv)


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    if argv[0] == "--version":
        print(__version__)
        return 0
    model, dataset, config_files, settings = parse_arguments(argv)
    with importing("msm4sr"):
        from recbole_msm4sr.training.recipe import run

    run(model, dataset, config_files, settings)
    return 0


def _settings(argv: list[str]) -> int:
    parser = Parser(prog="msm4sr settings", description="All settings of a model.")
    parser.add_argument("model", metavar="MODEL", help="MSM4SR, SASRec, ...")
    model = parser.parse_args(argv).model
    with importing("msm4sr"):
        from recbole_msm4sr.config.show import settings_text

    print(settings_text(model))
    return 0


def parse_arguments(argv: Sequence[str]) -> tuple[str, str, list[str], dict[str, Any]]:
    """Parse RecBole's conventions; values are YAML scalars and never evaluated.

    Args:
        argv: ``--model=M --dataset=D [--config_files=a.yaml b.yaml] [--resume] [--key=value ...]``. Model, dataset and
            config_files also take their value as the next word, and ``-m``, ``-d`` stand for the first two.

    Returns:
        Model, dataset, configuration files and settings.

    Raises:
        UserError: a word that is not a setting, a setting given twice, or a missing model or dataset.
    """
    named: dict[str, str] = {}
    settings: dict[str, Any] = {}
    config_files, words = take_config_files(argv)
    while words:
        word = words.pop(0)
        key, equals, value = word.lstrip("-").partition("=")
        key = {"m": "model", "d": "dataset"}.get(key, key)
        if not word.startswith("-") or not key:
            raise UserError(f"cannot read the argument {shown(word)}: settings are written --key=value")
        if not equals and key == "resume":
            value = "true"
        elif not equals and key in ("model", "dataset") and words and not words[0].startswith("-"):
            value = words.pop(0)
        elif not equals:
            raise UserError(f"the argument {shown(word)} has no value: settings are written --key=value")
        if key in named or key in settings:
            raise UserError(f"{shown(key)} is given twice")
        if key in ("model", "dataset"):
            named[key] = value
        else:
            settings[key] = parse_scalar(value)
    for key in ("model", "dataset"):
        if not named.get(key):
            raise UserError(f"no {key} given: add --{key}=...")
    return named["model"], named["dataset"], config_files, settings
