"""What can be chosen when a data set is prepared: every knob once, with its default, its range and its help.

The command line is made of these classes (``__main__``), and Python callers use them as they are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dataset_prep.encode.models import check_model_name
from dataset_prep.interactions.rules import MEMORY, REPEATS, Rules, check_memory
from recbole_msm4sr.core.distributed import own_device
from recbole_msm4sr.core.errors import UserError

STEPS = ("get", "interactions", "text", "pictures", "words", "features")
MODALITIES = ("text", "image")
BOTH = "text and image"
IMAGE_FEATURES = ("keywords", "clip", "resnet")
MAX_SENTENCES = 10  # of an item, as in the paper
_ENCODERS = "encoders: names on the Hugging Face hub, or folders"
_RULES = "interactions (default: users with 5; for table I's sets, what is nearest)"


class Settings(BaseModel):
    """Base of what can be chosen: unknown names and values out of range are a ``UserError`` that names the option."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**{name: self._read(name, value) for name, value in given.items()})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name, message = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
            value = f" is {given[name]!r:.80}" if name in given else ""
            raise UserError(f"{flag(name)}{value}: {message}") from error

    @classmethod
    def _read(cls, name: str, value: Any) -> Any:
        """A value as given, a list that is still a text between commas taken apart."""
        if isinstance(value, str | Path) and any(unicodedata.category(sign) in ("Cc", "Cs") for sign in str(value)):
            raise UserError(f"{flag(name)} is {str(value)!r:.80}: it has control characters, or is not UTF-8")
        extra = extra_of(cls, name)
        if "some_of" in extra and isinstance(value, str):
            value = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
        known = extra.get("some_of") or extra.get("one_of")
        if known and value is not None:
            for entry in value if isinstance(value, list | tuple) else [value]:
                if entry not in known:
                    raise UserError(f"{flag(name)}: {str(entry)!r:.80} is none of {', '.join(known)}")
        return value


def option(default: Any, text: str, *, limits: dict[str, Any] | None = None, **extra: Any) -> Any:
    """A field of :class:`Settings`.

    Args:
        default: ``...`` if it has to be given.
        text: for ``--help``, which adds the default.
        limits: pydantic's, ``ge`` and so on.
        extra: for the command line: ``metavar``; ``group``, the title of the group that begins here; ``one_of``,
            ``some_of``, the values that there are; ``positional``.
    """
    return Field(default, description=text, json_schema_extra=extra, **(limits or {}))


def extra_of(settings: type[Settings], name: str) -> dict[str, Any]:
    """What :func:`option` was told for the command line."""
    extra = settings.model_fields[name].json_schema_extra if name in settings.model_fields else None
    return extra if isinstance(extra, dict) else {}


def flag(name: str) -> str:
    """How the command line calls a field."""
    return f"--{name.rstrip('_').replace('_', '-')}"


def _checked_by(check: Callable[[Any], object]) -> AfterValidator:
    def checked(value: Any) -> Any:
        check(value)
        return value

    return AfterValidator(checked)


def _check_words(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} is not a file: give a text file, one word a line")


Model = Annotated[str, _checked_by(check_model_name)]
Memory = Annotated[str, _checked_by(check_memory)]
Device = Annotated[str, _checked_by(own_device)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Workers = Annotated[int, Field(ge=1, le=1024)]
_LARGEST = 2**31 - 1


def _revision() -> Any:
    return option(None, "of a name on the hub", metavar="COMMIT")


def _device() -> Any:
    return option(None, "cpu, cuda, ... (default: a GPU if there is one)")


class Target(Settings):
    """Which folder is prepared."""

    out: str = option(..., "folder of the data set", metavar="dataset/NAME")


class Options(Settings):
    """How a data set is prepared. ``workers`` are threads and processes beside the encoders."""

    steps: tuple[str, ...] = option(STEPS, "only these", some_of=STEPS, metavar="A,B", limits={"min_length": 1})
    modalities: tuple[str, ...] | None = option(
        None, "(default: what the source has)", some_of=MODALITIES, metavar="text,image"
    )

    min_user: int | None = option(
        None,
        f"users with fewer interactions go (default: {Rules.min_user})",
        group=_RULES,
        metavar="N",
        limits={"ge": 0, "le": _LARGEST},
    )
    min_item: int | None = option(
        None,
        f"items too, repeated until none goes (default: {Rules.min_item})",
        metavar="N",
        limits={"ge": 0, "le": _LARGEST},
    )
    repeats: str | None = option(
        None,
        f"of a user and an item; distinct: of equal times one (default: {Rules.repeats})",
        one_of=REPEATS,
    )
    require: tuple[str, ...] | None = option(
        None, "only items that have these", some_of=MODALITIES, metavar="text,image"
    )

    memory: Memory = option(MEMORY, "4GB or 50%: more goes to disk", metavar="SIZE")

    max_sentences: Count = option(MAX_SENTENCES, "of an item", group="text and pictures")
    max_pictures: Count = option(10, "of an item")
    per_host: Workers = option(4, "pictures asked at once")
    retry_dead: bool = option(False, "ask dead picture links again")
    allow_private: bool = option(False, "fetch from private addresses, too")

    # 768 dimensions; the paper names no model.
    sentence_encoder: Model = option(
        "sentence-transformers/all-mpnet-base-v2", "", group=_ENCODERS, metavar="NAME_OR_PATH"
    )
    # The paper names no checkpoint. This is the one whose projected vectors have the 768 numbers of the paper's d, so
    # that text and image features are of one size with --image-features clip as well. openai/clip-vit-base-patch32
    # (512 numbers) takes about 18 times less work.
    clip: Model = option("openai/clip-vit-large-patch14", "", metavar="NAME_OR_PATH")
    # The paper says ResNet and no more. This one's vectors have 2,048 numbers.
    resnet: Model = option("microsoft/resnet-50", "", metavar="NAME_OR_PATH")
    sentence_encoder_revision: str | None = _revision()
    clip_revision: str | None = _revision()
    resnet_revision: str | None = _revision()
    words: Annotated[Path, _checked_by(_check_words)] | None = option(
        None, "the dictionary D (default: built)", metavar="FILE"
    )
    # The paper's N and its range of N (figure 3b).
    top_n: int = option(15, "words a picture", metavar="N", limits={"ge": 5, "le": 50})
    image_features: str = option("keywords", "of pictures", one_of=IMAGE_FEATURES)
    device: Device | None = _device()
    workers: Workers = option(4, "beside the encoders")
    batch_size: Count = option(64, "pictures")

    @property
    def rules(self) -> Rules | None:
        """Rules of the user's as soon as one of them is given; None: the source's default."""
        if self.min_user is self.min_item is self.repeats is self.require is None:
            return None
        required = sorted(self.require or (), reverse=True)  # text, image
        given = {"repeats": self.repeats, "min_user": self.min_user, "min_item": self.min_item}
        return Rules(
            item_set=BOTH if len(required) > 1 else required[0] if required else None,
            **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
        )


class InfoOptions(Settings):
    """What ``info`` shows."""

    path: str = option(..., "a folder of a data set", positional=True, metavar="dataset/NAME")
    json_: bool = option(False, "as JSON")
    missing: bool = option(False, "items without a picture, and why: a table with tabs")


class GalleryOptions(Settings):
    """What the page shows."""

    path: str = option(..., "a folder of a data set", positional=True, metavar="dataset/NAME")
    max_items: Count = option(200, "on the page")
    thumbnail: int = option(160, "longer side, pixels", limits={"ge": 16, "le": 4096})
    missing_share: float = option(0.2, "of items that lack something", limits={"ge": 0, "le": 1})
    order: str = option("random", "of the items", one_of=("random", "popular"))
    seed: int = option(0, "of the choice of items", limits={"ge": 0})
    out: str | None = option(None, "(default: dataset/NAME/gallery.html)", metavar="FILE")


class EncodeOptions(Settings):
    """What is encoded, and how."""

    text: Path | None = option(None, "text.jsonl: item_id and sentences, or title, description, ...", metavar="FILE")
    keywords: Path | None = option(None, "image_keywords.jsonl: item_id and words per picture", metavar="FILE")
    sentence_encoder: Model = option(..., "a SentenceTransformer", metavar="NAME_OR_PATH")
    revision: str | None = option(None, "commit or tag, for a name on the hub", metavar="COMMIT")
    out: str = option(..., "gets features/text, features/image", metavar="dataset/NAME")
    device: Device | None = _device()
    max_sentences: Count = option(MAX_SENTENCES, "per item")
    overwrite: bool = option(False, "replace stores that are there already")


class DemoOptions(Settings):
    """Which data set is generated."""

    out: str = option("dataset/demo", "folder to make")
    seed: int = option(2020, "of everything that is drawn", limits={"ge": 0})
    overwrite: bool = option(False, "replace an earlier generated data set")
