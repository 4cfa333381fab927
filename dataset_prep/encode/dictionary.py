"""The word dictionary D of eq. 2: the user's file, or common English words and those of the catalogue itself.

The paper does not say what its D holds. Ours, where the user gives none, is made of plain words (a-z, 3 to 20 letters,
no stop words): the commonest of English, then those that the catalogue's own sentences use and that are rarer in the
language, commonest first. Parts of speech are not told apart: a word that cannot be seen is seldom near a picture. It
is English alone, which is what CLIP was trained on. For a CLIP of another language, or without the coarse words that
common English has, give a file.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import is_list_of_text, read_records
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_file

logger = logging.getLogger(__name__)

COMMON_WORDS = 10_000  # of English
CATALOGUE_WORDS = 10_000  # of the catalogue, at most
MIN_ITEMS = 3  # items that must use a word: below that it is a typing error or a name

_SHORTEST, _LONGEST = 3, 20  # letters
# A whole word of letters: not 5kg, b12 or don't. The 's of "women's" is left off.
_WORD = re.compile(rf"(?<!\w)(?<!\w['’])([a-z]{{{_SHORTEST},{_LONGEST}}})(?:['’]s)?(?!\w|['’]\w)")


def build_dictionary(layout: Layout, words: Path | None = None) -> dict[str, Any]:
    """Write ``layout.dictionary``, one word a line, from a file or from frequencies. Equal inputs give equal bytes.

    Args:
        words: a text file, one word or phrase a line; repeats and blank lines are dropped, the order is kept. None:
            the commonest words of English, and those of ``layout.sentences`` if that file is there.

    Returns:
        ``words``, ``common_words``, ``catalogue_words`` (counts; the last two are None for a user's file), ``source``
        and ``sha256`` of the file as written.

    Raises:
        UserError: the file is missing, not UTF-8, empty or has a tab; ``text.jsonl`` cannot be used; wordfreq is not
            installed.
    """
    figures: dict[str, Any]
    if words is not None:
        chosen = read_words(words)
        figures = {"source": "file", "words": len(chosen), "common_words": None, "catalogue_words": None}
    else:
        common = _common_words()
        own = _catalogue_words(layout.sentences, known=frozenset(common))
        chosen = [*common, *own]
        figures = {
            "source": "wordfreq and text.jsonl" if own else "wordfreq",
            "words": len(chosen),
            "common_words": len(common),
            "catalogue_words": len(own),
        }
    with atomic_file(layout.dictionary) as temporary:
        temporary.write_bytes(_as_file(chosen))
    figures["sha256"] = dictionary_digest(chosen)
    logger.info("word dictionary: %d words from %s", len(chosen), words or figures["source"])
    return figures


def read_words(path: Path) -> list[str]:
    """Read a dictionary D: one word or phrase a line, UTF-8. Blank lines and repeats are passed over.

    Raises:
        UserError: the file is missing, not UTF-8 text, has no word, or has a tab, as a list of words with counts does.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the word dictionary {path} cannot be read ({error}): give a UTF-8 file with one word a line"
        ) from error
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if "\t" in line.strip():
            raise UserError(f"{path}:{number}: {line.strip()!r} holds a tab: give one word a line and nothing else")
    words = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not words:
        raise UserError(f"the word dictionary {path} is empty: give one word a line")
    return words


def dictionary_digest(words: Sequence[str]) -> str:
    """Hex SHA-256 of D, that of ``layout.dictionary`` if it holds these words."""
    return hashlib.sha256(_as_file(words)).hexdigest()


def _as_file(words: Sequence[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode("utf-8")


def _common_words() -> list[str]:
    """The commonest plain words of English, commonest first."""
    try:
        from wordfreq import iter_wordlist
    except ImportError as error:
        raise UserError(
            "the default word dictionary needs wordfreq, which is not installed: pip install wordfreq, or give a "
            "file of words"
        ) from error
    stop_words = _stop_words()
    words: dict[str, None] = {}
    for word in iter_wordlist("en"):
        if len(words) == COMMON_WORDS:
            break
        if (match := _WORD.fullmatch(word)) and match[1] not in stop_words:
            words[match[1]] = None
    return list(words)


def _catalogue_words(sentences: Path, known: frozenset[str]) -> list[str]:
    """The words that most items' sentences use and that are not known yet; equally frequent ones by the alphabet."""
    if not sentences.is_file():
        return []
    n_items: Counter[str] = Counter()
    for where, _, record in read_records(sentences):
        texts = record.get("sentences") or []
        if not is_list_of_text(texts):
            raise UserError(f'{where}: "sentences" must be a list of strings')
        n_items.update({match[1] for text in texts for match in _WORD.finditer(text.lower())})
    unwanted = known | _stop_words()
    frequent = [word for word, n in n_items.items() if n >= MIN_ITEMS and word not in unwanted]
    return sorted(frequent, key=lambda word: (-n_items[word], word))[:CATALOGUE_WORDS]


def _stop_words() -> frozenset[str]:
    # Takes a second: only this step should pay for it.
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # type: ignore[import-untyped]

    return frozenset(ENGLISH_STOP_WORDS)
