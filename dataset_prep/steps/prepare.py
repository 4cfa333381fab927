"""From a source to a data set that trains: the table of steps, in order; each is skipped where it is done."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

from dataset_prep.encode.models import quiet_transformers
from dataset_prep.layout import Layout
from dataset_prep.options import Options
from dataset_prep.sources import Source
from dataset_prep.steps.encoding import dictionary, keyword_features, picture_features, text_features, words
from dataset_prep.steps.raw import get, interactions, pictures, text
from dataset_prep.steps.step import Preparation, Step, run_step
from recbole_msm4sr.core.distributed import is_main, once
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import locked, remove_left_overs


def prepare(source: Source, layout: Layout, options: Options) -> None:
    """Make a data set: ``<name>.inter``, ``<name>.item``, ``text.jsonl``, ..., ``features/``.

    Finished steps are skipped, interrupted ones continue. Under torchrun all processes call this with one shared
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
        something_to_do = False
        for part, make in TABLE:
            step = make(work) if part in options.steps else None
            if step is not None:
                something_to_do = True
                run_step(layout, step)
    if not something_to_do:
        raise UserError(f"--steps {','.join(options.steps)}: there is nothing to do for these files and modalities")


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
