"""What can be chosen when a data set is prepared, and what the choices mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataset_prep.encode.dictionary import check_top_n
from dataset_prep.encode.models import check_model_name
from dataset_prep.fetch.pictures import MAX_PICTURES
from dataset_prep.interactions.rules import MEMORY, Rules, check_memory
from dataset_prep.text.sentences import MAX_SENTENCES
from recbole_msm4sr.core.distributed import own_device
from recbole_msm4sr.core.errors import UserError

STEPS = ("get", "interactions", "text", "pictures", "words", "features")
MODALITIES = ("text", "image")
BOTH = "text and image"
IMAGE_FEATURES = ("keywords", "clip", "resnet")
SENTENCE_ENCODER = "sentence-transformers/all-mpnet-base-v2"  # 768 dimensions; the paper names none


@dataclass(frozen=True)
class Options:
    """How a data set is prepared.

    Attributes:
        steps: those to run, of ``STEPS``.
        modalities: ``text``, ``image`` or both; None: those that the source has.
        rules: which interactions stay; None: the paper's, or, for a data set of table I, what comes nearest to it.
        memory: of the interactions' filters, a size (``4GB``) or a share of the machine's (``50%``); more goes to disk.
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
    memory: str = MEMORY
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
        """Raise a ``UserError`` for options that no step can use: now, and not when their step's turn comes."""
        for name, values, known in (
            ("steps", self.steps, STEPS),
            ("modalities", MODALITIES if self.modalities is None else self.modalities, MODALITIES),
            ("image_features", (self.image_features,), IMAGE_FEATURES),
        ):
            unknown = [value for value in values if value not in known]
            if unknown or not values:
                raise UserError(f"{name}: there is no {unknown[0] if values else 'value'!r}: take {', '.join(known)}")
        check_top_n(self.top_n)
        check_memory(self.memory)
        if self.words is not None and not self.words.is_file():
            raise UserError(f"the word dictionary {self.words} is not a file: give a text file, one word a line")
        for model in (self.sentence_encoder, self.clip, self.resnet):
            if model is not None:
                check_model_name(model)
        if self.device is not None:
            own_device(self.device)
