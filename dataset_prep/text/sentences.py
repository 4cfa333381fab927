"""An item's record -> its sentences, the set T_i of section III-A of the paper."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dataset_prep.records import is_list_of_text, read_records
from recbole_msm4sr.errors import UserError

MAX_SENTENCES = 10


def read_sentences(path: str | os.PathLike[str], max_sentences: int = MAX_SENTENCES) -> dict[str, list[str]]:
    """Read ``text.jsonl``: item -> at most ``max_sentences`` sentences, in file order.

    Raises:
        UserError: as :func:`~dataset_prep.records.read_records` and :func:`record_sentences`; names file and line.
    """
    return {item_id: record_sentences(record, where, max_sentences) for where, item_id, record in read_records(path)}


def record_sentences(record: Mapping[str, Any], where: str, max_sentences: int = MAX_SENTENCES) -> list[str]:
    """The sentences of one item, without duplicates, the first ``max_sentences`` of them.

    A record with ``sentences`` (list of str) gives those. Any other is read as raw fields, each optional, in this
    order: ``title``, ``brand``, ``category`` (or ``genres``), ``features``, ``description``; each is a string or a
    list of strings. A title, a brand, a list of categories and each feature are one sentence; a description is split.
    White space is normalised; a record without any text gives ``[]``.

    Args:
        where: what to call the record in messages, such as ``text.jsonl:3``.

    Raises:
        UserError: a field is of another type, ``max_sentences`` is below 1, or a description is to be split and
            ``sentencex`` is not installed.
    """
    if max_sentences < 1:
        raise UserError(f"max_sentences is {max_sentences}: it must be 1 or more")
    if "sentences" in record:
        if not is_list_of_text(record["sentences"]):
            raise UserError(f'{where}: "sentences" must be a list of strings')
        return _tidy(record["sentences"], max_sentences)
    category = _strings(record, "category", where) or _strings(record, "genres", where)
    sentences = [
        *_strings(record, "title", where),
        *(f"Brand: {brand}" for brand in _strings(record, "brand", where)),
        *([f"Category: {', '.join(category)}"] if category else []),
        *_strings(record, "features", where),
    ]
    description = _strings(record, "description", where)
    if description:
        split = sentence_splitter()
        sentences += [sentence for paragraph in description for sentence in split(paragraph)]
    return _tidy(sentences, max_sentences)


def sentence_splitter() -> Callable[[str], list[str]]:
    """The function that splits English text into sentences: Wikimedia's ``sentencex``, maintained and free of models.

    Raises:
        UserError: ``sentencex`` is not installed.
    """
    try:
        sentencex = importlib.import_module("sentencex")
    except ModuleNotFoundError as error:
        raise UserError(
            'splitting descriptions into sentences needs sentencex: pip install "recbole-msm4sr[prep]"'
        ) from error
    segment = sentencex.segment
    return lambda text: list(segment("en", text))


def _strings(record: Mapping[str, Any], field: str, where: str) -> list[str]:
    """A field's strings with normalised white space, without empty ones; ``[]`` if it is missing or null."""
    value = record.get(field)
    if value is None:
        return []
    values = [value] if isinstance(value, str) else value
    if not is_list_of_text(values):
        raise UserError(f'{where}: "{field}" must be a string or a list of strings')
    return [text for text in (" ".join(entry.split()) for entry in values) if text]


def _tidy(sentences: Iterable[str], max_sentences: int) -> list[str]:
    """Normalise white space; drop what is empty, repeated, or holds no letter or digit, then what is too many."""
    normal = (" ".join(sentence.split()) for sentence in sentences)
    kept = dict.fromkeys(text for text in normal if any(character.isalnum() for character in text))
    return list(kept)[:max_sentences]
