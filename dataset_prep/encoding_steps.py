"""The steps with encoders: pictures to words, sentences and pictures to feature stores. All ranks share their work."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataset_prep.interactions.atomic_file import interaction_items
from dataset_prep.layout import Layout
from dataset_prep.options import Options
from dataset_prep.readers.jsonl import read_image_keywords, write_records
from dataset_prep.sources import Source
from dataset_prep.steps import read_summary, run_step
from recbole_msm4sr.core.errors import UserError


def words_step(source: Source, layout: Layout, options: Options) -> None:
    """The word dictionary, and the words of every picture (eq. 2); or the words that the user has."""
    if source.keywords is not None:
        _given_words(source.keywords, layout)
        return
    from dataset_prep.encode.clip import CLIP
    from dataset_prep.encode.describe import describe_pictures
    from dataset_prep.encode.dictionary import build_dictionary, read_words

    given = [options.words] if options.words is not None else []
    run_step(
        layout,
        "dictionary",
        settings={"built": not given},
        inputs=given or [path for path in (layout.sentences,) if path.is_file()],
        outputs=[layout.dictionary],
        work=lambda: build_dictionary(layout, words=options.words),
    )
    clip = options.clip or CLIP
    revision = (options.revisions or {}).get("clip")
    run_step(
        layout,
        "words",
        settings={"clip": clip, "revision": revision, "top_n": options.top_n},
        inputs=[layout.pictures, layout.dictionary, *_folder(clip)],
        outputs=[layout.keywords],
        work=lambda: describe_pictures(
            layout,
            words=read_words(layout.dictionary),
            clip=clip,
            revision=revision,
            top_n=options.top_n,
            device=options.device,
            batch_size=options.batch_size,
            workers=options.workers,
        ),
        parallel=True,
    )


def _given_words(path: Path, layout: Layout) -> None:
    """Take over the words of a file for the items of the .inter file; one that it does not name has no pictures."""

    def work() -> Mapping[str, Any]:
        given = read_image_keywords(path)
        tokens = interaction_items(layout.interactions)
        named = sum(token in given for token in tokens)
        if not named:
            raise UserError(f"{path} names no item of {layout.interactions.name}: are they the same item tokens?")
        write_records(layout.keywords, ({"item_id": token, "keywords": given.get(token, [])} for token in tokens))
        return {"items": len(tokens), "named": named, "of_no_item": len(given) - named}

    run_step(
        layout,
        "words",
        settings={"given": True},
        inputs=[path, layout.interactions],
        outputs=[layout.keywords],
        work=work,
    )


def features_step(layout: Layout, options: Options, modalities: tuple[str, ...]) -> None:
    """Both stores by Sentence-BERT (eq. 1 and 2), or the image store by an encoder of pictures.

    Each store is a step of its own: other pictures, words or N leave the text's as it is.
    """
    from dataset_prep.encode.picture_features import encode_pictures
    from dataset_prep.encode.step import encode_features

    revisions = options.revisions or {}
    kind = options.image_features
    of_sentences = [name for name in modalities if name == "text" or kind == "keywords"]
    for modality in of_sentences:
        text = modality == "text"
        described = None if text else read_summary(layout, "words")
        origin = _origin(described) if described else {}
        run_step(
            layout,
            f"{modality}_features",
            settings={
                "kind": modality if text else kind,
                "encoder": options.sentence_encoder,
                "revision": revisions.get("sentence_encoder"),
                **({"max_sentences": options.max_sentences} if text else origin),
            },
            inputs=[layout.sentences if text else layout.keywords, *_folder(options.sentence_encoder)],
            outputs=[layout.features(modality)],
            work=functools.partial(
                encode_features,
                layout,
                sentence_encoder=options.sentence_encoder,
                revision=revisions.get("sentence_encoder"),
                device=options.device,
                modality=modality,
                beside=of_sentences,
                max_sentences=options.max_sentences,
                options=origin,
            ),
            parallel=True,
        )
    if "image" in modalities and kind != "keywords":
        name = {"clip": options.clip, "resnet": options.resnet}[kind]
        run_step(
            layout,
            "image_features",
            settings={"kind": kind, "encoder": name, "revision": revisions.get(kind)},
            inputs=[layout.pictures, *(_folder(name) if name else [])],
            outputs=[layout.features("image")],
            work=lambda: encode_pictures(
                layout,
                kind=kind,
                name_or_path=name,
                revision=revisions.get(kind),
                device=options.device,
                batch_size=options.batch_size,
                workers=options.workers,
                overwrite=True,
            ),
            parallel=True,
        )


def _origin(described: Mapping[str, Any]) -> dict[str, Any]:
    """What the image store's manifest says of where its words come from."""
    kept = ("clip", "clip_revision", "top_n", "prompt", "dictionary_sha256", "dictionary_words")
    return {name: described["figures"][name] for name in kept if name in described["figures"]}


def _folder(name_or_path: str) -> list[Path]:
    """A model's folder as an input of a step; a name on the hub is a setting alone."""
    return [Path(name_or_path)] if Path(name_or_path).is_dir() else []
