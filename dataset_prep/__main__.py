"""``python -m dataset_prep {demo,encode,keywords}``: raw files -> what ``recbole_msm4sr`` reads."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from recbole_msm4sr.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, or 2 for input that cannot be used (said in one line on stderr)."""
    arguments = _parser().parse_args(argv)
    # Not the root logger: the model libraries have handlers of their own, and would say everything twice.
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("dataset_prep")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        arguments.run(arguments)
    except UserError as error:
        print(f"dataset_prep: error: {error}", file=sys.stderr)
        return 2
    finally:
        logger.removeHandler(handler)
    return 0


# The commands import what they need when they run: torch and transformers take seconds, --help should not.


def _demo(arguments: argparse.Namespace) -> None:
    from dataset_prep.demo.dataset import make_demo

    make_demo(arguments.out, arguments.seed, overwrite=arguments.overwrite)


def _encode(arguments: argparse.Namespace) -> None:
    from dataset_prep.features.encode import encode_dataset
    from dataset_prep.features.sentence_encoder import load_sentence_encoder
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
            batch_size=arguments.batch_size,
            overwrite=arguments.overwrite,
        )


def _keywords(arguments: argparse.Namespace) -> None:
    from dataset_prep.quiet import quiet_transformers
    from dataset_prep.words.keywords import extract_keywords
    from dataset_prep.words.tagger import PictureTagger, read_words

    words = read_words(arguments.words)
    with quiet_transformers():
        tagger = PictureTagger(arguments.clip, words, arguments.device)
        extract_keywords(
            arguments.images, tagger, arguments.out, top_n=arguments.top_n, batch_size=arguments.batch_size
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dataset_prep", description="Prepare a data set.")
    commands = parser.add_subparsers(required=True, metavar="{demo,encode,keywords}")

    demo = commands.add_parser("demo", help="generate the default data set; nothing in it is real")
    demo.add_argument("--out", default="dataset/demo", help="folder to make (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=2020, help="(default: %(default)s)")
    demo.add_argument("--overwrite", action="store_true", help="replace an earlier generated data set")
    demo.set_defaults(run=_demo)

    encode = commands.add_parser("encode", help="sentences and keywords -> feature stores (Sentence-BERT)")
    encode.add_argument("--text", help="text.jsonl: item_id and sentences, or title, description, ...")
    encode.add_argument("--keywords", help="image_keywords.jsonl: item_id and words per picture")
    encode.add_argument("--sentence-encoder", required=True, metavar="NAME_OR_PATH", help="a SentenceTransformer")
    encode.add_argument("--revision", help="commit or tag, for a name on the hub")
    encode.add_argument("--out", required=True, metavar="dataset/NAME", help="gets features/text, features/image")
    encode.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    encode.add_argument("--batch-size", type=_positive, default=64, help="(default: %(default)s)")
    encode.add_argument("--max-sentences", type=_positive, default=10, help="per item (default: %(default)s)")
    encode.add_argument("--overwrite", action="store_true", help="replace stores that are there already")
    encode.set_defaults(run=_encode)

    keywords = commands.add_parser("keywords", help="pictures -> words (CLIP)")
    keywords.add_argument("--images", required=True, metavar="DIR", help="ITEM.jpg, ITEM_2.png, ITEM/*.jpg")
    keywords.add_argument("--clip", required=True, metavar="NAME_OR_PATH", help="a CLIPModel with its processor")
    keywords.add_argument("--words", required=True, metavar="FILE", help="the word dictionary D, one word a line")
    keywords.add_argument("--top-n", type=_positive, default=15, help="words per picture (default: %(default)s)")
    keywords.add_argument("--out", required=True, metavar="FILE", help="image_keywords.jsonl")
    keywords.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    keywords.add_argument("--batch-size", type=_positive, default=64, help="(default: %(default)s)")
    keywords.set_defaults(run=_keywords)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
