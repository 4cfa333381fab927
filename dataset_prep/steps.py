"""From a source to a data set that trains: the table of steps, in order; each is skipped where it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from dataset_prep.encode.models import quiet_transformers
from dataset_prep.encode.steps import dictionary, keyword_features, picture_features, text_features, words
from dataset_prep.fetch.picture_sources import find_pictures, write_folder_sources
from dataset_prep.fetch.pictures import collect_pictures
from dataset_prep.interactions.atomic_file import interaction_items
from dataset_prep.interactions.build import build_interactions
from dataset_prep.interactions.rules import Rules
from dataset_prep.layout import Layout
from dataset_prep.options import BOTH, Options
from dataset_prep.readers.jsonl import read_image_keywords, read_records
from dataset_prep.readers.rejected import Rejected
from dataset_prep.sources import Source
from dataset_prep.step import Preparation, Step, read_summary, run_step
from dataset_prep.text.build import build_text, items_with
from recbole_msm4sr.core.distributed import is_main, once
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import locked, remove_left_overs

FETCHES_AT_ONCE = 16  # of all hosts together: a slow one should not hold up the others


def prepare(source: Source, layout: Layout, options: Options) -> None:
    """Make a data set: ``<name>.inter``, ``<name>.item``, ``text.jsonl``, ..., ``features/``.

    What is done is skipped, what was interrupted goes on. Under torchrun all processes call this with one shared
    folder: they share the encoders' work, and the first does the rest.

    Raises:
        UserError: files or records that cannot be used; a step that another one needs was not run; another command
            prepares the same data set.
        OSError: the disk is full or cannot be written; what is done is kept.
    """
    source.check(layout)
    work = Preparation(source, layout, options, _modalities(source, layout, options))
    with locked(layout.lock, wait=False) if is_main() else nullcontext(), quiet_transformers():
        once(lambda: _begin(layout, options))
        for part, make in TABLE:
            step = make(work) if part in options.steps else None
            if step is not None:
                run_step(layout, step)


def get(work: Preparation) -> Step | None:
    """The release's files, from a folder or from the network."""
    source, layout = work.source, work.layout

    def fetch() -> Mapping[str, Any]:
        with work.client() as client:
            return source.get(layout, client)

    files = source.fetched(layout)
    return Step("get", source.identity, inputs=[], outputs=files, work=fetch) if files else None


def interactions(work: Preparation) -> Step:
    """The ``.inter`` file."""
    source, layout, options = work.source, work.layout, work.options
    nearest = options.rules is None and source.reference is not None
    rules: Rules | Literal["nearest"] = options.rules or ("nearest" if nearest else Rules())
    needs_items = nearest or (options.rules is not None and options.rules.item_set is not None)
    of_items = [work.item_file, work.given_words or source.images] if needs_items else []

    def build() -> Mapping[str, Any]:
        rejected = Rejected()
        return build_interactions(
            layout,
            source.events(layout, rejected),
            rules,
            rejected=rejected,
            reference=source.reference,
            item_sets=_item_sets(work) if needs_items else None,
            memory=options.memory,
            threads=options.workers,
        )

    return Step(
        "interactions",
        {**source.identity, "rules": asdict(rules) if isinstance(rules, Rules) else rules},
        inputs=[source.interaction_file(layout), *_there(*of_items)],
        outputs=[layout.interactions],
        work=build,
    )


def text(work: Preparation) -> Step | None:
    """Sentences, attributes and where the pictures are, of the items of the .inter file."""
    source, layout, options = work.source, work.layout, work.options

    def build() -> Mapping[str, Any]:
        figures: dict[str, Any] = {}
        tokens = interaction_items(layout.interactions)
        if work.item_file is not None:
            rejected = Rejected()
            figures = build_text(
                layout,
                source.items(layout, rejected),
                tokens=tokens,
                max_sentences=options.max_sentences,
                max_pictures=options.max_pictures,
                workers=options.workers,
                rejected=rejected,
            )
            tokens = [token for _, token, _ in read_records(layout.sentences)]  # one order for all files
        if source.images is not None:
            figures["pictures"] = write_folder_sources(source.images, layout.picture_sources, tokens)
        return figures

    if work.item_file is None and source.images is None:
        return None  # interactions and ready words alone
    limits = {"max_sentences": options.max_sentences, "max_pictures": options.max_pictures}
    return Step(
        "text",
        {**source.identity, **limits},
        inputs=[layout.interactions, *_there(work.item_file, source.images)],
        outputs=[*([layout.sentences, layout.items] if work.item_file else []), layout.picture_sources],
        work=build,
    )


def pictures(work: Preparation) -> Step | None:
    """The picture files; not where their words are given and their links are all that there is of them."""
    source, layout, options = work.source, work.layout, work.options
    local = source.images is not None
    if not work.has_image or (work.given_words is not None and not local):
        return None
    earlier = read_summary(layout, "pictures")
    some_may_work_now = earlier is not None and bool(earlier["figures"].get("try_again"))
    half_encoded = any(step and step.shards and step.shards.is_dir() for step in (words(work), picture_features(work)))

    def collect() -> Mapping[str, Any]:
        if local:
            return collect_pictures(layout, client=None, workers=options.workers, max_pictures=options.max_pictures)
        with work.client() as client:
            return collect_pictures(
                layout,
                client=client,
                workers=max(options.workers, FETCHES_AT_ONCE, options.per_host),
                max_pictures=options.max_pictures,
                retry_dead=options.retry_dead,
            )

    return Step(
        "pictures",
        {"local": local, "max_pictures": options.max_pictures},
        inputs=[layout.picture_sources, *_there(source.images)],
        outputs=[layout.pictures],
        work=collect,
        again=options.retry_dead or (some_may_work_now and not half_encoded),  # other pictures are encoded anew
    )


#: In order: what ``--steps`` calls it, and what makes the step; None where this preparation has no such step. A step is
#: made when its turn comes, for what it reads may be made by those before.
TABLE: tuple[tuple[str, Callable[[Preparation], Step | None]], ...] = (
    ("get", get),
    ("interactions", interactions),
    ("text", text),
    ("pictures", pictures),
    ("words", dictionary),
    ("words", words),
    ("features", text_features),
    ("features", keyword_features),
    ("features", picture_features),
)


def _begin(layout: Layout, options: Options) -> None:
    """Raise a ``UserError`` before an atomic file is replaced that no step has made; clear up after killed commands."""
    if not layout.is_prepared:
        for step, path in (("interactions", layout.interactions), ("text", layout.items)):
            if step in options.steps and path.exists():
                raise UserError(f"{path} is there, and was not made here: move or remove it, or give another --out")
    layout.prep.mkdir(exist_ok=True)
    for folder in (layout.root, layout.prep, layout.features("text").parent):
        if folder.is_dir():
            remove_left_overs(folder)


def _modalities(source: Source, layout: Layout, options: Options) -> tuple[str, ...]:
    """The modalities to prepare.

    Raises:
        UserError: one is asked for that the source does not have.
    """
    chosen = source.modalities if options.modalities is None else options.modalities
    items = source.item_file(layout)
    has_words = source.keywords is not None and options.image_features == "keywords"
    if "image" in chosen and source.images is None and items is None and not has_words:
        raise UserError("there are no pictures: give --images, or links to them in --text, or leave image out")
    if "text" in chosen and items is None:
        raise UserError("there is no text to encode: give the items (--text), or leave text out of the modalities")
    return chosen


def _item_sets(work: Preparation) -> dict[str, set[str]]:
    """Items with text, with a picture, with both; a picture that is named or has words: none is fetched yet."""
    source, layout = work.source, work.layout
    sets = items_with(source.items(layout, Rejected()))
    if work.given_words is not None:
        sets["image"] = {item for item, found in read_image_keywords(work.given_words).items() if any(found)}
    elif source.images is not None:
        known = {item for _, item, _ in source.events(layout, Rejected())}
        sets["image"] = set(find_pictures(source.images, known))
    return {**sets, BOTH: sets["text"] & sets["image"]}


def _there(*paths: Path | None) -> list[Path]:
    return [path for path in paths if path is not None]
