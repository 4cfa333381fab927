"""Which sentences are an item's rows: ``text.jsonl`` and ``image_keywords.jsonl`` read item by item, as numbers."""

from __future__ import annotations

import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_prep.encode.distinct import write_distinct
from dataset_prep.readers.jsonl import read_records, record_keywords
from dataset_prep.text.sentences import record_sentences
from recbole_msm4sr.core.errors import UserError

_SENTENCES = "sentences-"
_DIGEST_LENGTH = 32  # hex digits in the folder's name


class Rows:
    """One modality: the numbers of every item's sentences, in order.

    Attributes:
        position: item -> its place in the file.
        numbers: of all items' sentences, int64 ``[n_rows]`` once complete.
    """

    def __init__(self, items: Iterable[tuple[str, Sequence[str]]], number_of: Callable[[str], int]) -> None:
        self.position: dict[str, int] = {}
        numbers, offsets = array("q"), array("q", [0])
        for item_id, sentences in items:
            self.position[item_id] = len(self.position)
            numbers.extend(number_of(sentence) for sentence in sentences)
            offsets.append(len(numbers))
        self.numbers: NDArray[np.int64] = np.frombuffer(numbers, dtype=np.int64) if numbers else np.empty(0, np.int64)
        self._offsets = offsets

    def of(self, item_id: str) -> NDArray[np.int64]:
        """The numbers of an item's sentences, ``[r]``; none of an item that the file lacks."""
        place = self.position.get(item_id)
        return self.numbers[:0] if place is None else self.numbers[self._offsets[place] : self._offsets[place + 1]]

    @property
    def n_distinct(self) -> int:
        """How many distinct sentences the items have."""
        return len(np.unique(self.numbers))


def number_sentences(folder: Path, sources: Mapping[str, Path], max_sentences: int) -> tuple[Path, dict[str, Rows]]:
    """Read the files, number their distinct sentences over all modalities, and write these (see ``distinct``).

    Args:
        folder: gets a folder of sentences, named by their digest; one of an earlier run is deleted.
        sources: ``text`` -> ``text.jsonl``, ``image`` -> ``image_keywords.jsonl``, or one of them.

    Returns:
        The folder of sentences, and the rows by modality.

    Raises:
        UserError: a file cannot be used, or no item in it has anything to encode.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(f"{_SENTENCES}*"):
        shutil.rmtree(left_over)
    rows = {}
    with tempfile.TemporaryDirectory(prefix=_SENTENCES, suffix=".tmp", dir=folder) as temporary:
        with write_distinct(Path(temporary) / "new") as writer:
            for modality, path in sources.items():
                items = text_sentences(path, max_sentences) if modality == "text" else keyword_sentences(path)
                rows[modality] = Rows(items, writer.number_of)
                if not len(rows[modality].numbers):
                    raise UserError(f"no item in {path} has anything to encode")
        made = folder / f"{_SENTENCES}{writer.digest[:_DIGEST_LENGTH]}"
        os.replace(Path(temporary) / "new", made)
    return made, rows


def text_sentences(path: str | os.PathLike[str], max_sentences: int) -> Iterator[tuple[str, list[str]]]:
    """Items of ``text.jsonl`` and at most ``max_sentences`` sentences of each: T_i of eq. 1.

    Raises:
        UserError: as ``records.read_records`` and ``text.sentences.record_sentences``.
    """
    for where, item_id, record in read_records(path):
        yield item_id, record_sentences(record, where, max_sentences)


def keyword_sentences(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    """Items of ``image_keywords.jsonl`` and one sentence a picture: concat(TopN) of eq. 2.

    A picture without words gives none, and an item without ``keywords`` has no pictures.

    Raises:
        UserError: as ``records.read_records`` and ``records.record_keywords``.
    """
    for where, item_id, record in read_records(path):
        yield item_id, picture_sentences(record_keywords(record, where))


def picture_sentences(pictures: Sequence[Sequence[str]]) -> list[str]:
    """concat(.) of eq. 2: each picture's words as one sentence. A picture without words gives none."""
    return [sentence for sentence in (" ".join(words).strip() for words in pictures) if sentence]
