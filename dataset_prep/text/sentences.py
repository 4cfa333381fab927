"""An item -> its sentences, the set T_i of section III-A of the paper."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from dataset_prep.readers.custom_items import custom_item
from dataset_prep.readers.items import Item
from dataset_prep.readers.rejected import ReasonError
from dataset_prep.text.boilerplate import is_boilerplate, without_heading
from dataset_prep.text.clean import clean, holds_script, paragraphs, plain_text
from recbole_msm4sr.core.errors import UserError

MAX_SENTENCES = 10
# Longer than any real sentence, and about what the usual encoders read of one (256 to 512 word pieces).
MAX_CHARACTERS = 1000
_SCRAP_WORDS = 2
_ENDS = ".!?;:, "  # what two sentences may differ in besides case and still be one
_BULLET = re.compile(r"(?:[•·▪▫■□◆◇●○★☆✓✔✅►▶➤➢❤♥※\s]|[-*~|>–—]+\s)+")


def record_sentences(record: Mapping[str, Any], where: str, max_sentences: int = MAX_SENTENCES) -> list[str]:
    """The sentences of one record, made as :func:`custom_item` and :func:`sentences_of` say.

    Args:
        where: what to call the record in messages, such as ``text.jsonl:3``.

    Raises:
        UserError: a field is of another type, or text is to be split and ``sentencex`` is not installed.
    """
    try:
        item = custom_item({"item_id": where, **record}, lambda reason, detail: None)  # pictures are not of interest
    except ReasonError as error:
        raise UserError(f"{where}: {error}") from error
    return sentences_of(item, max_sentences)


def sentences_of(item: Item, max_sentences: int = MAX_SENTENCES, dropped: Counter[str] | None = None) -> list[str]:
    """The first ``max_sentences`` sentences of an item, in this order: title, brand, category, features, description.

    The title is one sentence; so are ``Brand: ...`` and ``Category: ..., ...``; features and description are split,
    and what has one or two words is joined to what follows. All text is cleaned (:mod:`~dataset_prep.text.clean`).
    Dropped are scripts, boilerplate (:mod:`~dataset_prep.text.boilerplate`), sentences that repeat an earlier one but
    for case and the mark at the end, and sentences without a letter or digit. A sentence of more than 1,000 characters
    is cut after the last word that fits.

    Sentences that the source split itself are not cleaned, cut or taken for boilerplate: white space is normalised,
    and repeats and sentences without a letter or digit are dropped.

    Args:
        dropped: counts, by reason, what was dropped before the last sentence that was needed.

    Raises:
        UserError: ``sentencex`` is not installed and there is text to split.
    """
    return list(islice(_distinct(item, Counter() if dropped is None else dropped), max_sentences))


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


def _distinct(item: Item, dropped: Counter[str]) -> Iterator[str]:
    """Sentences worth keeping, each once, made only as they are asked for."""
    seen = set()
    for sentence in _made(item, dropped) if item.sentences is None else _ready(item.sentences):
        key = sentence.casefold().rstrip(_ENDS)
        if not any(character.isalnum() for character in sentence):
            dropped["without a letter or digit"] += 1
        elif key in seen:
            dropped["repeated"] += 1
        else:
            seen.add(key)
            yield sentence


def _ready(sentences: tuple[str, ...]) -> Iterator[str]:
    for sentence in sentences:  # half of a surrogate pair cannot be written
        yield " ".join(sentence.encode("utf-8", "ignore").decode("utf-8").split())


def _made(item: Item, dropped: Counter[str]) -> Iterator[str]:
    if title := " ".join(_cleaned(item.title, dropped)):
        yield _cut(title, dropped)
    if brand := clean(item.brand):
        yield _cut(f"Brand: {brand}", dropped)
    if category := dict.fromkeys(filter(None, map(clean, item.category))):
        yield _cut(f"Category: {', '.join(category)}", dropped)
    for text in (*item.features, *item.description):
        for paragraph in _cleaned(text, dropped):
            for part in _joined_scraps(sentence_splitter()(without_heading(paragraph))):
                sentence = _cut(_BULLET.sub("", part, count=1) if _BULLET.match(part) else part, dropped)
                if is_boilerplate(sentence):
                    dropped["boilerplate"] += 1
                else:
                    yield sentence


def _cleaned(text: str, dropped: Counter[str]) -> list[str]:
    plain = plain_text(text)
    if holds_script(plain):
        dropped["script"] += 1
        return []
    return paragraphs(plain)


def _joined_scraps(parts: Iterable[str]) -> Iterator[str]:
    """Join parts of one or two words to the part that follows, or to the last one where the paragraph ends.

    ``Fast delivery. Your card is sent at once.`` is one sentence then, and ``Eat. Shop. Relax.`` too: a row of
    features each would use up an item's few. Other scripts than Latin need not put spaces between words, so this is
    for ASCII alone.
    """
    last, scraps = "", []
    for part in (" ".join(part.split()) for part in parts):
        scraps.append(part)
        if len(part.split()) > _SCRAP_WORDS or not part.isascii():
            if last:
                yield last
            last, scraps = " ".join(scraps), []
    if last or scraps:
        yield " ".join([*filter(None, [last]), *scraps])


def _cut(sentence: str, dropped: Counter[str]) -> str:
    """The words that fit into 1,000 characters."""
    if len(sentence) <= MAX_CHARACTERS:
        return sentence
    dropped["words beyond the 1,000th character"] += 1
    return sentence[: MAX_CHARACTERS + 1].rpartition(" ")[0] or sentence[:MAX_CHARACTERS]
