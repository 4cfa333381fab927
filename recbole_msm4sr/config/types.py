"""Types of settings: what each may be, checked by pydantic, and the words that say so."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from recbole_msm4sr.core.errors import UserError, shown


def knob(default: Any, description: str, paper: Any = None) -> Any:
    """A setting: its default, what it is, and the value in the MSM4SR paper where that has one."""
    return Field(default, description=description, json_schema_extra={"paper": paper})


#: Some code keeps counts in 32 bits.
MOST = 2**31 - 1


def _distinct(values: list[Any]) -> list[Any]:
    if any(values.index(value) != place for place, value in enumerate(values)):
        raise ValueError("a value stands twice")
    return values


def _interval(text: str) -> str:
    for part in text.split(";"):
        match = re.fullmatch(r"\s*[\[(]\s*([^,\s]+)\s*,\s*([^,\s]+)\s*[\])]\s*", part)
        if match is None or not float(match[1]) <= float(match[2]):  # NaN, too
            raise ValueError("not an interval")
    return text


def _clipping(value: dict[str, float]) -> dict[str, float]:
    if "max_norm" not in value:
        raise ValueError("max_norm is missing")
    return value


def _known_metric(name: str) -> str:
    if name.lower() not in RANKING_METRICS:
        raise ValueError("not a metric of rankings")
    return name


def _codec(name: str) -> str:
    try:
        "item_id:token".encode(name).decode(name)
    except (LookupError, ValueError) as error:  # LookupError: unknown, or not of text, such as hex
        raise ValueError("not an encoding of text") from error
    return name


def _expression(separator: str) -> str:
    try:
        re.compile(separator if len(separator) > 1 else "")  # pandas takes more than one character for an expression
    except re.error as error:
        raise ValueError("not a regular expression") from error
    return separator


def _sampled(mode: str) -> str:
    if mode != "full" and not re.fullmatch(r"(uni|pop)[1-9]\d{0,3}", mode):
        raise ValueError("not a mode")
    return mode


RANKING_METRICS = (
    "recall", "mrr", "ndcg", "hit", "precision", "map", "gauc", "itemcoverage", "averagepopularity", "shannonentropy",
    "giniindex", "tailpercentage",
)  # fmt: skip

Probability = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
#: Of numbers: float32, which torch converts them to, holds little more.
LARGEST = 1e38
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST)]
CountOrZero = Annotated[int, Field(ge=0, le=MOST)]
Size = Annotated[int, Field(ge=1, le=8192)]  # of vectors: a square matrix of the largest has 256 MiB
Width = Annotated[int, Field(ge=1, le=65536)]
Layers = Annotated[int, Field(ge=1, le=128)]
Few = Annotated[int, Field(ge=1, le=1024)]
Small = Annotated[int, Field(ge=1, le=1_000_000)]
SmallOrZero = Annotated[int, Field(ge=0, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32), "a whole number in [0, 2^32)"]
#: Text of one line: control characters cannot be part of a name or a path.
Text = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$"), "text on one line"]
PathOrEmpty = Annotated[str, Field(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$"), "a path"] | None
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f\s]+$"), "a name without blanks"]
Names = Annotated[list[Name], AfterValidator(_distinct), "a list of columns, such as [class]"]
NameOrNames = Annotated[Name | list[Name], "a name, or a list of names"]
Separator = Annotated[
    str, Field(min_length=1, max_length=16), AfterValidator(_expression), "what separates cells, one character or more"
]
Encoding = Annotated[str, AfterValidator(_codec), "an encoding of text that Python knows, such as utf-8 or latin-1"]
Modalities = Annotated[
    list[Literal["text", "image"]],
    AfterValidator(_distinct),
    "a list of text and image, such as [text] or [text, image]",
]
SomeModalities = Annotated[
    list[Literal["text", "image"]],
    Field(min_length=1),
    AfterValidator(_distinct),
    "a list of text and image, such as [text] or [text, image]",
]
Interval = Annotated[
    str,
    Field(max_length=256),
    AfterValidator(_interval),
    'an interval, such as "[5,inf)" or "[5,20]"; several are joined by a semicolon',
]
Clipping = Annotated[
    dict[Literal["max_norm", "norm_type"], Positive],
    AfterValidator(_clipping),
    "a mapping such as {max_norm: 5, norm_type: 2}",
]
LogLevel = Annotated[
    str, Field(pattern="^(?i:debug|info|warning|error|critical)$"), "one of debug, info, warning, error, critical"
]
Metric = Annotated[str, AfterValidator(_known_metric), "a metric of rankings"]
Metrics = Annotated[
    Metric | Annotated[list[Metric], Field(min_length=1), AfterValidator(_distinct)],
    f"a list of metrics of rankings ({', '.join(RANKING_METRICS)})",
]
Cutoff = Annotated[int, Field(ge=1, le=100_000)]
Cutoffs = Annotated[
    Cutoff | Annotated[list[Cutoff], Field(min_length=1), AfterValidator(_distinct)],
    "a list of distinct whole numbers from 1, such as [5, 10]",
]
Mode = Annotated[str, AfterValidator(_sampled), "full, uniN or popN with N negatives, at most 9999, such as uni100"]
Gpus = Annotated[
    Annotated[int, Field(ge=-1, le=1023)] | Annotated[str, Field(pattern=r"^(-1|(\d{1,4}(,\s*\d{1,4})*)?)$")],
    "the numbers of GPUs, such as 0 or '0,1', or '' for none",
]


Epochs = Annotated[int, Field(ge=0, le=1_000_000)]
Learner = Literal["adam", "adamw", "sgd", "adagrad", "rmsprop"]
ThreeNames = Annotated[
    list[Name], Field(min_length=3, max_length=3), "a list of three names, such as [train, valid, test]"
]


class Settings(BaseModel):
    """Settings of something: typed strictly, and of known keys alone."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class Discretization(Settings):
    """How a column of numbers is cut into buckets."""

    method: Literal["ED", "LD"]
    bucket: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _bucket(self) -> Self:
        if (self.method == "ED") != (self.bucket is not None):
            raise ValueError("method ED needs a number of buckets (bucket), and LD has none")
        return self


def checked_values(schema: type[Settings], values: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Check values against a schema.

    Args:
        schema: its fields say what each value may be, its validators what must agree.
        values: by key.
        within: the setting that holds these values, with a dot, for messages.

    Returns:
        The values; a whole number given for one that need not be whole is a float, as torch needs it.

    Raises:
        UserError: names the first setting at fault, its value and what it may be.
    """
    try:
        typed = schema.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if not first["loc"]:
            raise UserError(str(first["ctx"]["error"])) from error
        key = first["loc"][0]
        if key not in schema.model_fields:
            meant = hint(key, schema.model_fields)
            raise UserError(f"unknown setting {shown(key)} in {within.rstrip('.')}{meant}") from error
        field, value = schema.model_fields[str(key)], values.get(str(key))
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(value, dict) and isinstance(part, type) and issubclass(part, Settings):
                checked_values(part, value, f"{within}{key}.")
        raise UserError(f"{within}{key} must be {words(field)}; it is {shown(value)}") from error
    floats = {key: number for key in values if isinstance(number := getattr(typed, key), float)}
    return {**values, **floats}


def hint(key: object, known: Iterable[str]) -> str:
    """What may have been meant by an unknown key, as the end of a message."""
    near = difflib.get_close_matches(str(key)[:100], sorted(known), n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near else ""


def words(field: FieldInfo) -> str:
    """What a setting may be, in words."""
    return _words(field.annotation, field.metadata)


def _words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
    said = [part for part in metadata if isinstance(part, str)]
    if said:
        return said[0]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, types.UnionType):
        of_all = [_words(part) for part in parts if part is not type(None)]
        return " or ".join(of_all) + (", or nothing" if type(None) in parts else "")
    if origin is dict:
        return f"a mapping of names, each to {_words(parts[1])}"
    if origin is list:
        return f"a list, each of it {_words(parts[0])}"
    if annotation in (int, float):
        return _words_of_number(annotation, metadata)
    return {bool: "true or false", str: "text"}.get(annotation, "a mapping")


def _words_of_number(kind: type, metadata: Sequence[Any]) -> str:
    """The bounds of a number, which pydantic keeps in the metadata, of a nested type within a ``FieldInfo``."""
    bounds: dict[str, float] = {}
    for part in [inner for outer in metadata for inner in getattr(outer, "metadata", [outer])]:
        bounds |= {name: getattr(part, name) for name in ("ge", "gt", "le", "lt") if hasattr(part, name)}
    if kind is int:
        most = f", at most {bounds['le']}" if bounds.get("le", MOST) < MOST else ""
        return f"a whole number, at least {bounds['ge']}{most}"
    if bounds.get("le") == LARGEST:
        lower = " above 0" if "gt" in bounds else ", 0 or more" if bounds["ge"] == 0 else ", at least -1e38"
        return f"a number{lower}, at most 1e38"
    return f"a number in [{bounds['ge']}, {bounds['le']}]" if "le" in bounds else "a number in [0, 1)"
