"""The command line of ``python -m dataset_prep``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from dataset_prep.fetch.releases import REVIEWS
from dataset_prep.interactions.rules import MEMORY, REPEATS, Rules
from dataset_prep.options import BOTH, IMAGE_FEATURES, MODALITIES, SENTENCE_ENCODER, STEPS, Options
from dataset_prep.readers.tables import parse_columns
from dataset_prep.sources import AmazonSource, CustomSource

_DEVICE = "cpu, cuda, ... (default: a GPU if there is one)"


def parser() -> argparse.ArgumentParser:
    """Commands and options; ``arguments.command`` names the command."""
    root = argparse.ArgumentParser(
        prog="python -m dataset_prep", description="Raw files -> a data set that MSM4SR trains on.", allow_abbrev=False
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="{amazon,custom,info,gallery,encode,demo}")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    amazon = add("amazon", "Amazon reviews of 2018 or 2023, downloaded or from files that you have")
    amazon.add_argument("--release", type=int, default=2018, help="2018 or 2023 (default: %(default)s)")
    amazon.add_argument("--category", required=True, help="as the release writes it: Prime_Pantry")
    amazon.add_argument("--reviews", choices=REVIEWS, default="full", help="(default: %(default)s)")
    amazon.add_argument("--raw", type=Path, metavar="DIR", help="folder with the release's files; else: download")
    amazon.add_argument("--mirror", metavar="URL", help="download from here instead of the release's own address")
    _add_preparation(amazon)

    custom = add("custom", "your own interactions, text and pictures")
    custom.add_argument("--inter", type=Path, required=True, metavar="FILE", help="CSV, TSV, Parquet or .inter")
    custom.add_argument("--columns", metavar="user=A,item=B,timestamp=C", help="(default: recognised)")
    custom.add_argument("--text", type=Path, metavar="FILE", help="JSON lines: item_id and any text fields")
    custom.add_argument("--images", type=Path, metavar="DIR", help="ITEM.jpg, ITEM_2.png, ITEM/*.jpg")
    custom.add_argument("--keywords", type=Path, metavar="FILE", help="JSON lines: item_id and words of each picture")
    _add_preparation(custom)

    info = add("info", "what a data set holds")
    info.add_argument("path", metavar="dataset/NAME")
    shown = info.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="as JSON")
    shown.add_argument("--missing", action="store_true", help="items without a picture, and why: a table with tabs")

    gallery = add("gallery", "one HTML page: items with pictures, words and sentences")
    gallery.add_argument("path", metavar="dataset/NAME")
    gallery.add_argument("--max-items", type=_positive, default=200, help="(default: %(default)s)")
    gallery.add_argument("--thumbnail", type=_positive, default=160, help="longer side, pixels (default: %(default)s)")
    gallery.add_argument("--missing-share", type=float, default=0.2, help="of items that lack something (default: 0.2)")
    gallery.add_argument("--order", choices=("random", "popular"), default="random", help="(default: %(default)s)")
    gallery.add_argument("--seed", type=int, default=0, help="of the choice of items (default: %(default)s)")
    gallery.add_argument("--out", metavar="FILE", help="(default: dataset/NAME/gallery.html)")

    encode = add("encode", "ready sentences and picture words -> feature stores, for any data set")
    encode.add_argument("--text", help="text.jsonl: item_id and sentences, or title, description, ...")
    encode.add_argument("--keywords", help="image_keywords.jsonl: item_id and words per picture")
    encode.add_argument("--sentence-encoder", required=True, metavar="NAME_OR_PATH", help="a SentenceTransformer")
    encode.add_argument("--revision", help="commit or tag, for a name on the hub")
    encode.add_argument("--out", required=True, metavar="dataset/NAME", help="gets features/text, features/image")
    encode.add_argument("--device", help=_DEVICE)
    encode.add_argument("--max-sentences", type=_positive, default=10, help="per item (default: %(default)s)")
    encode.add_argument("--overwrite", action="store_true", help="replace stores that are there already")

    demo = add("demo", "generate the default data set; nothing in it is real")
    demo.add_argument("--out", default="dataset/demo", help="folder to make (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=2020, help="(default: %(default)s)")
    demo.add_argument("--overwrite", action="store_true", help="replace an earlier generated data set")
    return root


def _add_preparation(command: argparse.ArgumentParser) -> None:
    """The options that all sources have in common."""
    command.add_argument("--out", required=True, metavar="dataset/NAME", help="folder of the data set")
    command.add_argument(
        "--steps", type=_list_of(STEPS), default=STEPS, metavar="A,B", help=f"only these of {','.join(STEPS)}"
    )
    command.add_argument(
        "--modalities", type=_list_of(MODALITIES), metavar="text,image", help="(default: what the source has)"
    )
    rules = command.add_argument_group("interactions (default: users with 5; for table I's sets, what is nearest)")
    rules.add_argument("--min-user", type=int, metavar="N", help="users with fewer interactions go (default: 5)")
    rules.add_argument("--min-item", type=int, metavar="N", help="items too, repeated until none goes (default: 0)")
    rules.add_argument(
        "--repeats", choices=REPEATS, help="of a user and an item; distinct: of equal times one (default: distinct)"
    )
    rules.add_argument("--require", type=_list_of(MODALITIES), metavar="text,image", help="only items that have these")
    rules.add_argument("--memory", default=MEMORY, metavar="50%%|4GB", help="more goes to disk (default: %(default)s)")
    text = command.add_argument_group("text and pictures")
    text.add_argument("--max-sentences", type=_positive, default=10, help="of an item (default: %(default)s)")
    text.add_argument("--max-pictures", type=_positive, default=10, help="of an item (default: %(default)s)")
    text.add_argument("--per-host", type=_positive, default=4, help="pictures asked at once (default: %(default)s)")
    text.add_argument("--retry-dead", action="store_true", help="ask dead picture links again")
    text.add_argument("--allow-private", action="store_true", help="fetch from private addresses, too")
    encoders = command.add_argument_group("encoders: names on the Hugging Face hub, or folders")
    encoders.add_argument(
        "--sentence-encoder", default=SENTENCE_ENCODER, metavar="NAME_OR_PATH", help="(default: %(default)s)"
    )
    encoders.add_argument("--clip", metavar="NAME_OR_PATH", help="(default: openai/clip-vit-large-patch14)")
    encoders.add_argument("--resnet", metavar="NAME_OR_PATH", help="(default: microsoft/resnet-50)")
    encoders.add_argument("--sentence-encoder-revision", metavar="COMMIT")
    encoders.add_argument("--clip-revision", metavar="COMMIT")
    encoders.add_argument("--resnet-revision", metavar="COMMIT")
    encoders.add_argument("--words", type=Path, metavar="FILE", help="the dictionary D (default: built)")
    encoders.add_argument("--top-n", type=_positive, default=15, metavar="N", help="words a picture (default: 15)")
    encoders.add_argument(
        "--image-features", choices=IMAGE_FEATURES, default="keywords", help="of pictures (default: %(default)s)"
    )
    encoders.add_argument("--device", help=_DEVICE)
    encoders.add_argument("--workers", type=_positive, default=4, help="beside the encoders (default: %(default)s)")
    encoders.add_argument("--batch-size", type=_positive, default=64, help="pictures (default: %(default)s)")


def source_of(arguments: argparse.Namespace) -> AmazonSource | CustomSource:
    """The source that ``amazon`` or ``custom`` names.

    Raises:
        UserError: ``--columns`` cannot be read.
    """
    if arguments.command == "amazon":
        return AmazonSource(arguments.release, arguments.category, arguments.reviews, arguments.raw, arguments.mirror)
    columns = parse_columns(arguments.columns) if arguments.columns else None
    return CustomSource(arguments.inter, columns, arguments.text, arguments.images, arguments.keywords)


def options_of(arguments: argparse.Namespace) -> Options:
    """How ``amazon`` or ``custom`` is to prepare it.

    Raises:
        UserError: a value that no step can use.
    """
    revisions = {
        name: getattr(arguments, f"{name}_revision")
        for name in ("sentence_encoder", "clip", "resnet")
        if getattr(arguments, f"{name}_revision")
    }
    return Options(
        steps=arguments.steps,
        modalities=arguments.modalities,
        rules=_rules(arguments),
        memory=arguments.memory,
        max_sentences=arguments.max_sentences,
        max_pictures=arguments.max_pictures,
        words=arguments.words,
        clip=arguments.clip,
        sentence_encoder=arguments.sentence_encoder,
        resnet=arguments.resnet,
        revisions=revisions,
        top_n=arguments.top_n,
        image_features=arguments.image_features,
        device=arguments.device,
        workers=arguments.workers,
        batch_size=arguments.batch_size,
        per_host=arguments.per_host,
        retry_dead=arguments.retry_dead,
        allow_private=arguments.allow_private,
    )


def _rules(arguments: argparse.Namespace) -> Rules | None:
    """Rules of the user's as soon as one of them is given; None: the source's default."""
    if arguments.min_user is arguments.min_item is arguments.repeats is arguments.require is None:
        return None
    default = Rules()
    required = sorted(arguments.require or (), reverse=True)  # text, image
    return Rules(
        item_set=BOTH if len(required) > 1 else required[0] if required else None,
        repeats=arguments.repeats or default.repeats,
        min_user=default.min_user if arguments.min_user is None else arguments.min_user,
        min_item=default.min_item if arguments.min_item is None else arguments.min_item,
    )


def _list_of(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        values = tuple(dict.fromkeys(value.strip() for value in text.split(",")))
        for value in values:
            if value not in known:
                raise argparse.ArgumentTypeError(f"{value!r} is none of {', '.join(known)}")
        return values

    return parse


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return value
