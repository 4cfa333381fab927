"""The word dictionary D."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from dataset_prep.encode.dictionary import build_dictionary, dictionary_digest, read_words
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import write_records
from recbole_msm4sr.core.errors import UserError


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(tmp_path / "mine")


def _write_sentences(layout: Layout, *items: list[str]) -> None:
    write_records(
        layout.sentences, ({"item_id": str(number), "sentences": texts} for number, texts in enumerate(items))
    )


def test_a_file_of_the_users_is_the_dictionary_in_its_order_without_repeats(layout: Layout, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_bytes("\ufeffzebra\r\n\r\n  Café au lait \nzebra\nantelope".encode())
    _write_sentences(layout, ["ukulele"], ["ukulele"], ["ukulele"])
    figures = build_dictionary(layout, own)
    content = layout.dictionary.read_bytes()
    assert content.decode() == "zebra\nCafé au lait\nantelope\n"
    assert figures["sha256"] == hashlib.sha256(content).hexdigest()
    assert figures["sha256"] == dictionary_digest(read_words(layout.dictionary))
    assert (figures["source"], figures["words"]) == ("file", 3)


def test_the_default_is_common_english_then_the_catalogues_own_words_by_items(layout: Layout) -> None:
    _write_sentences(
        layout,
        ["A kalimba is a kalimba.", "KALIMBA!", "the zither’s strings"],
        ["kalimba, zither and 12mm xyloband7", "house"],
        ["kalimba (zither)", "don't kalimba's qq averyveryverylongnonsense"],
        ["kalimba averyveryverylongnonsense", "cajon", "don't"],
        ["cajon averyveryverylongnonsense", "cajon"],
    )
    figures = build_dictionary(layout)
    words = read_words(layout.dictionary)
    assert words[10_000:] == ["kalimba", "zither"], "cajon is in the sentences of two items only"
    assert {"house", "red", "school"} < set(words[:10_000])
    assert not {"the", "and", "that", "a"} & set(words)
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
    assert len(set(words)) == len(words)
    assert (figures["words"], figures["common_words"], figures["catalogue_words"]) == (10_002, 10_000, 2)
    before = layout.dictionary.read_bytes()
    assert build_dictionary(layout) == figures
    assert layout.dictionary.read_bytes() == before


def test_equally_frequent_words_of_the_catalogue_stand_by_the_alphabet(layout: Layout) -> None:
    _write_sentences(layout, *[["zither balalaika kalimba"]] * 3)
    build_dictionary(layout)
    assert read_words(layout.dictionary)[10_000:] == ["balalaika", "kalimba", "zither"]


def test_a_catalogue_without_text_has_the_common_words(layout: Layout) -> None:
    figures = build_dictionary(layout)
    assert (figures["source"], figures["words"], figures["catalogue_words"]) == ("wordfreq", 10_000, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        ("café".encode("latin-1"), "cannot be read.*UTF-8 file"),
        (b"red\nblue\t12\n", ":2: .*holds a tab"),
    ],
)
def test_an_unusable_file_is_one_clear_error(layout: Layout, tmp_path: Path, content: bytes, message: str) -> None:
    own = tmp_path / "own.txt"
    own.write_bytes(content)
    with pytest.raises(UserError, match=message):
        build_dictionary(layout, own)
    assert not layout.dictionary.exists()


def test_a_missing_file_and_a_missing_library_are_clear_errors(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        build_dictionary(layout, tmp_path / "absent.txt")
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(UserError, match="needs wordfreq"):
        build_dictionary(layout)
