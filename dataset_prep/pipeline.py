"""From a source to a data set that trains: the steps in order, each of them skipped where it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from dataset_prep.encoding_steps import features_step, words_step
from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.picture_sources import find_pictures, write_folder_sources
from dataset_prep.fetch.pictures import collect_pictures
from dataset_prep.interactions.atomic_file import interaction_items
from dataset_prep.interactions.build import build_interactions
from dataset_prep.interactions.rules import Rules
from dataset_prep.layout import Layout
from dataset_prep.options import BOTH, STEPS, Options
from dataset_prep.readers.jsonl import read_image_keywords, read_records
from dataset_prep.readers.rejected import Rejected
from dataset_prep.sources import Source
from dataset_prep.steps import read_summary, run_step
from dataset_prep.text.build import build_text, items_with
from dataset_prep.text.item_file import write_item_file
from recbole_msm4sr.core.distributed import once
from recbole_msm4sr.core.errors import UserError

FETCHES_AT_ONCE = 16  # of all hosts together: a slow one should not hold up the others


def prepare(source: Source, layout: Layout, options: Options) -> None:
    """Make a data set: ``<name>.inter``, ``<name>.item``, ``text.jsonl``, ..., ``features/``.

    What is done is skipped, what was interrupted goes on. Under torchrun all processes call this with one shared
    folder: they share the encoders' work, and the first does the rest.

    Raises:
        UserError: options, files or records that cannot be used; a step that another one needs was not run.
        OSError: the disk is full or cannot be written; what is done is kept.
    """
    options.check()
    source.check(layout)
    once(lambda: _check_for_files_of_others(layout, options))
    once(lambda: layout.prep.mkdir(parents=True, exist_ok=True))
    modalities = _modalities(source, layout, options)
    image = "image" in modalities
    in_words = image and options.image_features == "keywords"
    work = {
        "get": lambda: _get(source, layout, options),
        "interactions": lambda: _interactions(source, layout, options),
        "text": lambda: _text(source, layout, options),
        "pictures": lambda: _pictures(source, layout, options) if image and _needs_pictures(source, options) else None,
        "words": lambda: words_step(source, layout, options) if in_words else None,
        "features": lambda: features_step(layout, options, modalities),
    }
    for step in STEPS:
        if step in options.steps:
            work[step]()


def _check_for_files_of_others(layout: Layout, options: Options) -> None:
    """Raise a ``UserError`` before an atomic file is replaced that no step has made."""
    if layout.prep.is_dir():
        return  # a data set of ours
    for step, path in (("interactions", layout.interactions), ("text", layout.items)):
        if step in options.steps and path.exists():
            raise UserError(f"{path} is there, and was not made here: move or remove it, or give another --out")


def _modalities(source: Source, layout: Layout, options: Options) -> tuple[str, ...]:
    """The modalities to prepare.

    Raises:
        UserError: one is asked for that the source does not have.
    """
    chosen = source.modalities if options.modalities is None else options.modalities
    catalogue = source.catalogue_file(layout)
    nothing_to_see = source.pictures is None and catalogue is None
    if "image" in chosen and nothing_to_see and _given_words(source, options) is None:
        raise UserError("there are no pictures: give --images, or links to them in --text, or leave image out")
    if "text" in chosen and catalogue is None:
        raise UserError("there is no text to encode: give a catalogue (--text), or leave text out of the modalities")
    return chosen


def _given_words(source: Source, options: Options) -> Path | None:
    """The file of the user's that the image store is made of; None: words or vectors of the pictures themselves."""
    return source.keywords if options.image_features == "keywords" else None


def _needs_pictures(source: Source, options: Options) -> bool:
    """Whether to collect pictures: not where their words are given and their links are all that there is of them."""
    return source.pictures is not None or _given_words(source, options) is None


def _get(source: Source, layout: Layout, options: Options) -> None:
    files = source.fetched(layout)
    if files:
        with _client(options) as client:
            run_step(
                layout,
                "get",
                settings=source.settings,
                inputs=[],
                outputs=files,
                work=lambda: source.get(layout, client),
            )


def _interactions(source: Source, layout: Layout, options: Options) -> None:
    reference = source.reference(layout)
    nearest = options.rules is None and reference is not None
    rules: Rules | Literal["nearest"] = options.rules or ("nearest" if nearest else Rules())
    catalogue = source.catalogue_file(layout)
    needs_items = nearest or (options.rules is not None and options.rules.item_set is not None)
    inputs = [source.interaction_file(layout)]
    if needs_items:
        pictures = _given_words(source, options) or source.pictures
        inputs += [path for path in (catalogue, pictures) if path is not None]

    def work() -> Mapping[str, Any]:
        rejected = Rejected()
        return build_interactions(
            layout,
            source.events(layout, rejected),
            rules,
            rejected=rejected,
            reference=reference,
            item_sets=_item_sets(source, layout, options) if needs_items else None,
            memory=options.memory,
            threads=options.workers,
        )

    settings = {**source.settings, "rules": asdict(rules) if isinstance(rules, Rules) else rules}
    run_step(layout, "interactions", settings=settings, inputs=inputs, outputs=[layout.interactions], work=work)


def _item_sets(source: Source, layout: Layout, options: Options) -> dict[str, set[str]]:
    """Items with text, with a picture, with both; a picture that is named or has words: none is fetched yet."""
    sets = items_with(source.catalogue(layout, Rejected()))
    words = _given_words(source, options)
    if words is not None:
        sets["image"] = {item for item, pictures in read_image_keywords(words).items() if any(pictures)}
    elif source.pictures is not None:
        known = {item for _, item, _ in source.events(layout, Rejected())}
        sets["image"] = set(find_pictures(source.pictures, known))
    return {**sets, BOTH: sets["text"] & sets["image"]}


def _text(source: Source, layout: Layout, options: Options) -> None:
    """Sentences, attributes and where the pictures are, of the items of the .inter file."""
    inputs = [
        path for path in (layout.interactions, source.catalogue_file(layout), source.pictures) if path is not None
    ]

    def work() -> Mapping[str, Any]:
        figures: dict[str, Any] = {}
        tokens = interaction_items(layout.interactions)
        if source.catalogue_file(layout) is not None:
            rejected = Rejected()
            figures = build_text(
                layout,
                source.catalogue(layout, rejected),
                tokens=tokens,
                max_sentences=options.max_sentences,
                max_pictures=options.max_pictures,
                workers=options.workers,
                rejected=rejected,
            )
            figures["attributes"] = write_item_file(layout.items, source.catalogue(layout, Rejected()), tokens)
            tokens = [token for _, token, _ in read_records(layout.sentences)]  # one order for all files
        if source.pictures is not None:
            figures["pictures"] = write_folder_sources(source.pictures, layout.picture_sources, tokens)
        return figures

    outputs = []
    if source.catalogue_file(layout) is not None:
        outputs += [layout.sentences, layout.items]
    if source.catalogue_file(layout) is not None or source.pictures is not None:
        outputs += [layout.picture_sources]
    if not outputs:
        return  # interactions and ready words alone
    settings = {
        **source.settings,
        "max_sentences": options.max_sentences,
        "max_pictures": options.max_pictures,
    }
    run_step(layout, "text", settings=settings, inputs=inputs, outputs=outputs, work=work)


def _pictures(source: Source, layout: Layout, options: Options) -> None:
    local = source.pictures is not None
    earlier = read_summary(layout, "pictures")
    some_may_work_now = bool(earlier and earlier["figures"]["try_again"])
    half_encoded = any(layout.shards(step).is_dir() for step in ("words", "picture-features"))  # more would undo it

    def work() -> Mapping[str, Any]:
        if local:
            return collect_pictures(layout, client=None, workers=options.workers, max_pictures=options.max_pictures)
        with _client(options) as client:
            return collect_pictures(
                layout,
                client=client,
                workers=max(options.workers, FETCHES_AT_ONCE, options.per_host),
                max_pictures=options.max_pictures,
                retry_dead=options.retry_dead,
            )

    run_step(
        layout,
        "pictures",
        settings={"local": local, "max_pictures": options.max_pictures},
        inputs=[path for path in (layout.picture_sources, source.pictures) if path is not None],
        outputs=[layout.pictures],
        work=work,
        again=options.retry_dead or (some_may_work_now and not half_encoded),
    )


def _client(options: Options) -> HttpClient:
    return HttpClient(per_host=options.per_host, allow_private=options.allow_private)
