"""``python -m dataset_prep {amazon,custom,info,gallery,encode,demo}``: raw files -> what ``recbole_msm4sr`` reads."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Sequence

from dataset_prep.arguments import options_of, parser, source_of
from recbole_msm4sr.core.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 2 for what cannot be used or written, said in one line on standard error; 130 if interrupted.
    """
    arguments = parser().parse_args(argv)
    # Not the root logger: the model libraries have handlers of their own, and would say everything twice.
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("dataset_prep")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module="PIL")  # of damaged pictures, which are counted
    try:
        _COMMANDS[arguments.command](arguments)
    except UserError as error:
        print(f"dataset_prep: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk, a folder that cannot be written
        print(
            f"dataset_prep: error: {error}; mend that, and the same command goes on where it stopped", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("dataset_prep: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    finally:
        logger.removeHandler(handler)
    return 0


# The commands import what they need when they run: torch and transformers take seconds, --help should not.


def _prepare(arguments: argparse.Namespace) -> None:
    from dataset_prep.info.describe import describe
    from dataset_prep.info.text import describe_as_text
    from dataset_prep.layout import Layout
    from dataset_prep.pipeline import prepare
    from dataset_prep.quiet import quiet_transformers
    from recbole_msm4sr.core.distributed import rank

    layout = Layout.of(arguments.out)
    with quiet_transformers():
        prepare(source_of(arguments), layout, options_of(arguments))
    if rank() == 0 and layout.interactions.is_file():
        print(describe_as_text(describe(layout)))


def _info(arguments: argparse.Namespace) -> None:
    from dataset_prep.info.describe import describe
    from dataset_prep.info.text import describe_as_text
    from dataset_prep.layout import Layout

    layout = Layout.of(arguments.path)
    if arguments.missing:
        from dataset_prep.fetch.missing import missing_as_table

        _print_lines(missing_as_table(layout))
        return
    described = describe(layout)
    _print_lines(
        [json.dumps(described, indent=2, ensure_ascii=False) if arguments.json else describe_as_text(described)]
    )


def _print_lines(lines: Iterable[str]) -> None:
    """Print until the reader of standard output has seen enough, as ``head`` has."""
    for line in lines:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
            return


def _gallery(arguments: argparse.Namespace) -> None:
    from dataset_prep.gallery.page import write_gallery
    from dataset_prep.layout import Layout

    path, _ = write_gallery(
        Layout.of(arguments.path),
        max_items=arguments.max_items,
        seed=arguments.seed,
        thumbnail=arguments.thumbnail,
        order=arguments.order,
        missing_share=arguments.missing_share,
        out=arguments.out,
    )
    print(path)


def _encode(arguments: argparse.Namespace) -> None:
    from dataset_prep.encode.encode import encode_dataset
    from dataset_prep.encode.sentence_encoder import load_sentence_encoder
    from dataset_prep.quiet import quiet_transformers

    if arguments.text is None and arguments.keywords is None:
        raise UserError("there is nothing to encode: give --text, --keywords, or both")
    with quiet_transformers():
        encode_dataset(
            arguments.out,
            load_sentence_encoder(arguments.sentence_encoder, arguments.device, revision=arguments.revision),
            text=arguments.text,
            keywords=arguments.keywords,
            max_sentences=arguments.max_sentences,
            overwrite=arguments.overwrite,
        )


def _demo(arguments: argparse.Namespace) -> None:
    from dataset_prep.demo.dataset import make_demo

    make_demo(arguments.out, arguments.seed, overwrite=arguments.overwrite)


_COMMANDS = {
    "amazon": _prepare,
    "custom": _prepare,
    "info": _info,
    "gallery": _gallery,
    "encode": _encode,
    "demo": _demo,
}

if __name__ == "__main__":
    sys.exit(main())
