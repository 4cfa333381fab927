"""From a source to a data set that trains: the steps in order, each of them skipped where it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dataset_prep.http.client import HttpClient
from dataset_prep.interactions.atomic_file import interaction_items
from dataset_prep.interactions.build import build_interactions
from dataset_prep.interactions.rules import Rules
from dataset_prep.layout import Layout
from dataset_prep.pictures.collect import MAX_PICTURES, collect_pictures
from dataset_prep.pictures.folder import find_pictures
from dataset_prep.pictures.sources import write_folder_sources
from dataset_prep.ranks import once
from dataset_prep.records import read_image_keywords, write_records
from dataset_prep.rejected import Rejected
from dataset_prep.sources import Source
from dataset_prep.steps import read_summary, run_step
from dataset_prep.text.build import build_text, items_with
from dataset_prep.text.item_file import write_item_file
from dataset_prep.text.sentences import MAX_SENTENCES
from recbole_msm4sr.errors import UserError

STEPS = ("get", "interactions", "text", "pictures", "words", "features")
MODALITIES = ("text", "image")
BOTH = "text and image"
FETCHES_AT_ONCE = 16  # of all hosts together: a slow one should not hold up the others
IMAGE_FEATURES = ("keywords", "clip", "resnet")
SENTENCE_ENCODER = "sentence-transformers/all-mpnet-base-v2"  # 768 dimensions; the paper names none


@dataclass(frozen=True)
class Options:
    """How a data set is prepared.

    Attributes:
        steps: those to run, of ``STEPS``.
        modalities: ``text``, ``image`` or both; None: those that the source has.
        rules: which interactions stay; None: the paper's, or, for a data set of table I, what comes nearest to it.
        max_sentences, max_pictures: of an item; the paper's 10.
        words: a dictionary D; None: one is built.
        clip, sentence_encoder, resnet: names on the model hub, or folders; None for clip and resnet: their defaults.
        revisions: commit or tag by option name, for names on the hub.
        top_n: N of eq. 2.
        image_features: what the rows of the image store are: Sentence-BERT of words (eq. 2), CLIP's vectors, ResNet's.
        device: for the encoders; None: a GPU if there is one.
        workers: threads and processes beside the encoders; of downloads, pictures at once.
        batch_size: pictures of a forward pass; sentences have a budget of their own (``features.encode``).
        per_host: pictures asked of one host at once.
        retry_dead: ask dead picture links again.
        allow_private: fetch from private addresses, too.
    """

    steps: tuple[str, ...] = STEPS
    modalities: tuple[str, ...] | None = None
    rules: Rules | None = None
    max_sentences: int = MAX_SENTENCES
    max_pictures: int = MAX_PICTURES
    words: Path | None = None
    clip: str | None = None
    sentence_encoder: str = SENTENCE_ENCODER
    resnet: str | None = None
    revisions: Mapping[str, str] | None = None
    top_n: int = 15
    image_features: str = "keywords"
    device: str | None = None
    workers: int = 4
    batch_size: int = 64
    per_host: int = 4
    retry_dead: bool = False
    allow_private: bool = False

    def check(self) -> None:
        """Raise a ``UserError`` for options that no step can use."""
        for name, values, known in (
            ("steps", self.steps, STEPS),
            ("modalities", MODALITIES if self.modalities is None else self.modalities, MODALITIES),
            ("image_features", (self.image_features,), IMAGE_FEATURES),
        ):
            unknown = [value for value in values if value not in known]
            if unknown or not values:
                raise UserError(f"{name}: there is no {unknown[0] if values else 'value'!r}: take {', '.join(known)}")


def prepare(source: Source, layout: Layout, options: Options) -> None:
    """Make a data set: ``<name>.inter``, ``<name>.item``, ``text.jsonl``, ..., ``features/``.

    What is done is skipped, what was interrupted goes on. Under torchrun all processes call this with one shared
    folder: they share the encoders' work, and the first does the rest.

    Raises:
        UserError: options, files or records that cannot be used; a step that another one needs was not run.
        OSError: the disk is full or cannot be written; what is done is kept.
    """
    options.check()
    once(lambda: layout.prep.mkdir(parents=True, exist_ok=True))
    modalities = _modalities(source, layout, options)
    image = "image" in modalities
    work = {
        "get": lambda: _get(source, layout, options),
        "interactions": lambda: _interactions(source, layout, options),
        "text": lambda: _text(source, layout, options),
        "pictures": lambda: _pictures(source, layout, options) if image and not source.keywords else None,
        "words": lambda: _words(source, layout, options) if image and options.image_features == "keywords" else None,
        "features": lambda: _features(layout, options, modalities),
    }
    for step in STEPS:
        if step in options.steps:
            work[step]()


def _modalities(source: Source, layout: Layout, options: Options) -> tuple[str, ...]:
    """The modalities to prepare.

    Raises:
        UserError: one is asked for that the source does not have.
    """
    if options.modalities is None:
        return source.modalities
    if "text" in options.modalities and source.catalogue_file(layout) is None:
        raise UserError("there is no text to encode: give a catalogue (--text), or leave text out of the modalities")
    return options.modalities


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
        inputs += [path for path in (catalogue, source.pictures) if path is not None]

    def work() -> Mapping[str, Any]:
        rejected = Rejected()
        return build_interactions(
            layout,
            source.events(layout, rejected),
            rules,
            rejected=rejected,
            reference=reference,
            item_sets=_item_sets(source, layout) if needs_items else None,
        )

    settings = {**source.settings, "rules": asdict(rules) if isinstance(rules, Rules) else rules}
    run_step(layout, "interactions", settings=settings, inputs=inputs, outputs=[layout.interactions], work=work)


def _item_sets(source: Source, layout: Layout) -> dict[str, set[str]]:
    """Items with text, with a picture, with both: a picture that is named, for none has been fetched yet."""
    sets = items_with(source.catalogue(layout, Rejected()))
    if source.pictures is not None:
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

    def work() -> Mapping[str, Any]:
        if local:
            return collect_pictures(layout, client=None, workers=options.workers, max_pictures=options.max_pictures)
        with _client(options) as client:
            return collect_pictures(
                layout,
                client=client,
                workers=max(options.workers, FETCHES_AT_ONCE),
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
        again=options.retry_dead or bool(earlier and earlier["figures"]["try_again"]),
    )


def _words(source: Source, layout: Layout, options: Options) -> None:
    if source.keywords is not None:
        _given_words(source.keywords, layout)
        return
    from dataset_prep.words.clip import CLIP
    from dataset_prep.words.describe import describe_pictures
    from dataset_prep.words.dictionary import build_dictionary, read_words

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


def _features(layout: Layout, options: Options, modalities: tuple[str, ...]) -> None:
    """Both stores by Sentence-BERT (eq. 1 and 2), or the image store by an encoder of pictures."""
    from dataset_prep.features.step import encode_features
    from dataset_prep.words.picture_features import encode_pictures

    revisions = options.revisions or {}
    of_sentences = [name for name in modalities if name == "text" or options.image_features == "keywords"]
    if of_sentences:
        inputs = {"text": layout.sentences, "image": layout.keywords}
        described = read_summary(layout, "words")
        run_step(
            layout,
            "features",
            settings={
                "sentence_encoder": options.sentence_encoder,
                "revision": revisions.get("sentence_encoder"),
                "max_sentences": options.max_sentences,
                "modalities": of_sentences,
            },
            inputs=[*(inputs[name] for name in of_sentences), *_folder(options.sentence_encoder)],
            outputs=[layout.features(name) for name in of_sentences],
            work=lambda: encode_features(
                layout,
                sentence_encoder=options.sentence_encoder,
                revision=revisions.get("sentence_encoder"),
                device=options.device,
                modalities=of_sentences,
                max_sentences=options.max_sentences,
                options={"image": _origin(described)} if described else None,
            ),
            parallel=True,
        )
    if "image" in modalities and options.image_features != "keywords":
        kind = options.image_features
        name = {"clip": options.clip, "resnet": options.resnet}[kind]
        run_step(
            layout,
            "picture_features",
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


def _client(options: Options) -> HttpClient:
    return HttpClient(per_host=options.per_host, allow_private=options.allow_private)
