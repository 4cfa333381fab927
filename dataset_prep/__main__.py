"""``python -m dataset_prep {amazon,custom,info,gallery,encode,demo}``: raw files -> what ``recbole_msm4sr`` reads."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from dataset_prep.layout import Layout
from dataset_prep.options import (
    DemoOptions,
    EncodeOptions,
    GalleryOptions,
    InfoOptions,
    Options,
    Settings,
    Target,
    extra_of,
    flag,
)
from dataset_prep.sources import AmazonSource, CustomSource, Source
from recbole_msm4sr.core.command import Parser, importing, run_command
from recbole_msm4sr.core.distributed import is_main
from recbole_msm4sr.core.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 2 for what cannot be used or written, said in one line on standard error; 130 if interrupted.
    """
    # Not the root logger: the model libraries have handlers of their own, and would say everything twice.
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("dataset_prep")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module="PIL")  # of damaged pictures, which are counted
    try:
        return run_command(
            "dataset_prep", lambda: _run(argv), if_interrupted="the same command goes on where it stopped"
        )
    finally:
        logger.removeHandler(handler)


def _run(argv: Sequence[str] | None) -> None:
    given = vars(parser().parse_args(argv))
    _, function, kinds = _COMMANDS[given["command"]]
    function(*(kind(**{name: given[name] for name in kind.model_fields if name in given}) for kind in kinds))


def parser() -> argparse.ArgumentParser:
    """Commands and options, made of the classes in ``options`` and ``sources``; ``command`` names the command."""
    root = Parser(
        prog="python -m dataset_prep", description="Raw files -> a data set that MSM4SR trains on.", allow_abbrev=False
    )
    commands = root.add_subparsers(dest="command", required=True, metavar=f"{{{','.join(_COMMANDS)}}}")
    for name, (text, _, kinds) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        for kind in kinds:
            _add_options(command, kind)
    return root


def _add_options(command: argparse.ArgumentParser, kind: type[Settings]) -> None:
    group: Any = command
    for name, field in kind.model_fields.items():
        extra = extra_of(kind, name)
        if "group" in extra:
            group = command.add_argument_group(extra["group"])
        text, metavar = field.description or "", extra.get("metavar")
        if "some_of" in extra and field.default is not None:
            text = f"{text} of {','.join(extra['some_of'])}"
        elif not field.is_required() and field.default not in (None, False):
            text = f"{text} (default: {field.default})"
        text = text.strip().replace("%", "%%")
        if "one_of" in extra:
            metavar = f"{{{','.join(extra['one_of'])}}}"
        if extra.get("positional"):
            group.add_argument(name, metavar=metavar, help=text)
        elif field.annotation is bool:
            group.add_argument(flag(name), dest=name, action="store_true", default=argparse.SUPPRESS, help=text)
        else:
            group.add_argument(
                flag(name),
                dest=name,
                default=argparse.SUPPRESS,
                required=field.is_required(),
                metavar=metavar,
                help=text,
            )


# The commands import what they need when they run: torch and transformers take seconds, --help should not.


def _prepare(source: Source, target: Target, options: Options) -> None:
    with importing("dataset_prep"):
        from dataset_prep.info.describe import describe
        from dataset_prep.info.text import describe_as_text
        from dataset_prep.steps.prepare import prepare

    layout = Layout.of(target.out)
    prepare(source, layout, options)
    if is_main() and layout.interactions.is_file():
        print(describe_as_text(describe(layout)))


def _info(options: InfoOptions) -> None:
    with importing("dataset_prep"):
        from dataset_prep.fetch.missing import missing_as_table
        from dataset_prep.info.describe import describe
        from dataset_prep.info.text import describe_as_text

    layout = Layout.of(options.path)
    if options.missing and options.json_:
        raise UserError("--json and --missing are two different things: give one of them")
    if options.missing:
        for line in missing_as_table(layout):
            print(line)
        return
    described = describe(layout)
    print(json.dumps(described, indent=2, ensure_ascii=False) if options.json_ else describe_as_text(described))


def _gallery(options: GalleryOptions) -> None:
    with importing("dataset_prep"):
        from dataset_prep.gallery.page import write_gallery

    layout = Layout.of(options.path)
    path, _ = write_gallery(layout, **options.model_dump(exclude={"path"}))
    print(path)


def _encode(options: EncodeOptions) -> None:
    with importing("dataset_prep"):
        from dataset_prep.encode.models import quiet_transformers
        from dataset_prep.encode.sentence_encoder import load_sentence_encoder
        from dataset_prep.encode.sentence_features import encode_dataset
        from recbole_msm4sr.core.files import locked

    layout = Layout.of(options.out)
    if options.text is None and options.keywords is None:
        raise UserError("there is nothing to encode: give --text, --keywords, or both")
    with locked(layout.lock, wait=False) if is_main() else nullcontext(), quiet_transformers():
        encode_dataset(
            layout.root,
            load_sentence_encoder(options.sentence_encoder, options.device, revision=options.revision),
            text=options.text,
            keywords=options.keywords,
            max_sentences=options.max_sentences,
            overwrite=options.overwrite,
        )


def _demo(options: DemoOptions) -> None:
    with importing("dataset_prep"):
        from dataset_prep.demo.dataset import make_demo

    make_demo(options.out, options.seed, overwrite=options.overwrite)


_COMMANDS: dict[str, tuple[str, Callable[..., None], tuple[type[Settings], ...]]] = {
    "amazon": (
        "Amazon reviews of 2018 or 2023, downloaded or from files that you have",
        _prepare,
        (AmazonSource, Target, Options),
    ),
    "custom": ("your own interactions, text and pictures", _prepare, (CustomSource, Target, Options)),
    "info": ("what a data set holds", _info, (InfoOptions,)),
    "gallery": ("one HTML page: items with pictures, words and sentences", _gallery, (GalleryOptions,)),
    "encode": ("ready sentences and picture words -> feature stores, for any data set", _encode, (EncodeOptions,)),
    "demo": ("generate the default data set; nothing in it is real", _demo, (DemoOptions,)),
}

if __name__ == "__main__":
    sys.exit(main())
