"""The steps with encoders: pictures to words, sentences and pictures to feature stores; all processes share them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataset_prep.encode.dictionary import build_dictionary, read_words
from dataset_prep.encode.picture_encoder import Clip, ResNet
from dataset_prep.encode.picture_features import encode_pictures
from dataset_prep.encode.picture_words import ORIGIN, describe_pictures
from dataset_prep.encode.sentence_encoder import load_sentence_encoder
from dataset_prep.encode.sentence_features import encode_dataset
from dataset_prep.encode.stores import figures_of
from dataset_prep.layout import Layout
from dataset_prep.readers.inter import interaction_items
from dataset_prep.readers.jsonl import read_image_keywords, write_records
from dataset_prep.steps.step import Preparation, Step, read_summary
from recbole_msm4sr.core.errors import UserError


def dictionary(work: Preparation) -> Step | None:
    """The word dictionary D."""
    layout, given = work.layout, work.options.words
    if not work.has_image or not work.image_is_words or work.source.keywords is not None:
        return None
    return Step(
        "dictionary",
        {"built": given is None},
        inputs=[given] if given else [path for path in (layout.sentences,) if path.is_file()],
        outputs=[layout.dictionary],
        work=lambda: build_dictionary(layout, given),
    )


def words(work: Preparation) -> Step | None:
    """The words of every picture (eq. 2), or those that the user has."""
    layout, options, given = work.layout, work.options, work.source.keywords
    if not work.has_image or not work.image_is_words:
        return None
    if given is not None:
        return Step(
            "words",
            {"given": True},
            inputs=[given, layout.interactions],
            outputs=[layout.keywords],
            work=lambda: _take_over_words(given, layout),
        )
    clip, revision = options.clip, options.clip_revision
    return Step(
        "words",
        {"clip": clip, "revision": revision, "top_n": options.top_n},
        inputs=[layout.pictures, layout.dictionary, *_folder(clip)],
        outputs=[layout.keywords],
        work=lambda: describe_pictures(
            layout,
            Clip(clip, options.device, revision=revision),
            words=read_words(layout.dictionary),
            top_n=options.top_n,
            batch_size=options.batch_size,
            workers=options.workers,
        ),
        parallel=True,
        shards=layout.shards("words"),
        origin=ORIGIN,
    )


def text_features(work: Preparation) -> Step | None:
    """The text store (eq. 1). Each store is a step of its own: other pictures, words or N leave the text's as it is."""
    settings = {"kind": "text", "max_sentences": work.options.max_sentences}
    return _sentence_features(work, "text", work.layout.sentences, settings) if "text" in work.modalities else None


def keyword_features(work: Preparation) -> Step | None:
    """The image store by Sentence-BERT (eq. 2)."""
    described = words(work)
    if described is None:
        return None
    summary = read_summary(work.layout, described.name)
    figures = {} if summary is None else summary["figures"]
    origin = {name: figures[name] for name in described.origin if name in figures}
    settings = {"kind": "keywords", **origin}
    return _sentence_features(work, "image", work.layout.keywords, settings, origin)


def picture_features(work: Preparation) -> Step | None:
    """The image store by an encoder of pictures."""
    layout, options, kind = work.layout, work.options, work.options.image_features
    if not work.has_image or work.image_is_words:
        return None
    encoder, name, revision = (
        (Clip, options.clip, options.clip_revision)
        if kind == "clip"
        else (ResNet, options.resnet, options.resnet_revision)
    )
    return Step(
        "image_features",
        {"kind": kind, "encoder": name, "revision": revision},
        inputs=[layout.pictures, *_folder(name)],
        outputs=[layout.features("image")],
        work=lambda: encode_pictures(
            layout,
            encoder(name, options.device, revision=revision),
            batch_size=options.batch_size,
            workers=options.workers,
        ),
        parallel=True,
        shards=layout.shards("picture-features"),
    )


def _sentence_features(
    work: Preparation, modality: str, path: Path, settings: Mapping[str, Any], origin: Mapping[str, Any] | None = None
) -> Step:
    layout, options = work.layout, work.options
    name, revision = options.sentence_encoder, options.sentence_encoder_revision
    both = work.modalities if work.image_is_words else ("text",)

    def encode() -> Mapping[str, Any]:
        encoder = load_sentence_encoder(name, options.device, revision=revision)
        start = time.monotonic()
        store = encode_dataset(
            layout.root,
            encoder,
            text=path if modality == "text" else None,
            keywords=path if modality == "image" else None,
            max_sentences=options.max_sentences,
            options={modality: origin or {}},
            overwrite=True,
            beside=both,
        )[modality]
        return {
            "encoder": encoder.name,
            "revision": encoder.revision,
            "encoding_seconds": round(time.monotonic() - start, 3),
            **figures_of(store),
            "options": store.manifest["options"],
        }

    return Step(
        f"{modality}_features",
        {**settings, "encoder": name, "revision": revision},
        inputs=[path, *_folder(name)],
        outputs=[layout.features(modality)],
        work=encode,
        parallel=True,
    )


def _take_over_words(path: Path, layout: Layout) -> Mapping[str, Any]:
    """Take over the words of a file for the items of the .inter file; one that it does not name has no pictures."""
    given = read_image_keywords(path)
    tokens = interaction_items(layout.interactions)
    named = sum(token in given for token in tokens)
    if not named:
        raise UserError(f"{path} names no item of {layout.interactions.name}: are they the same item tokens?")
    write_records(layout.keywords, ({"item_id": token, "keywords": given.get(token, [])} for token in tokens))
    return {"items": len(tokens), "named": named, "of_no_item": len(given) - named}


def _folder(name_or_path: str) -> list[Path]:
    """A model's folder as an input of a step; a name on the hub is a setting alone."""
    return [Path(name_or_path)] if Path(name_or_path).is_dir() else []
