"""The steps before the encoders: files, interactions, text and pictures; the first process alone does them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from dataset_prep.fetch.picture_sources import find_pictures, write_folder_sources
from dataset_prep.fetch.pictures import collect_pictures
from dataset_prep.interactions.build import build_interactions
from dataset_prep.interactions.rules import Rules
from dataset_prep.options import BOTH
from dataset_prep.readers.inter import interaction_items
from dataset_prep.readers.jsonl import read_image_keywords, read_records
from dataset_prep.readers.rejected import Rejected
from dataset_prep.sources import AmazonSource
from dataset_prep.steps.encoding import picture_features, words
from dataset_prep.steps.step import Preparation, Step, read_summary
from dataset_prep.text.build import build_text, items_with

FETCHES_AT_ONCE = 16  # of all hosts together: a slow one should not hold up the others


def get(work: Preparation) -> Step | None:
    """The release's files, from a folder or from the network."""
    source, layout = work.source, work.layout
    if not isinstance(source, AmazonSource):
        return None

    def fetch() -> Mapping[str, Any]:
        with work.client() as client:
            return source.get(layout, client)

    return Step("get", source.identity, inputs=[], outputs=source.fetched(layout), work=fetch)


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
            origin=source.interaction_file(layout),
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
                origin=work.item_file,
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
