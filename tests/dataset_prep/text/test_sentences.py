"""Records -> sentences."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from dataset_prep.readers.items import Item
from dataset_prep.text.sentences import MAX_CHARACTERS, record_sentences, sentences_of
from recbole_msm4sr.core.errors import UserError


def test_ready_sentences_keep_their_order_lose_duplicates_and_stop_at_the_limit() -> None:
    record = {"sentences": ["b  b", "a", "b b", "", "...", *map(str, range(20))]}
    assert record_sentences(record, "x:1") == ["b b", "a", *map(str, range(8))]
    assert record_sentences(record, "x:1", max_sentences=2) == ["b b", "a"]


def test_each_raw_field_becomes_sentences_in_the_documented_order() -> None:
    record = {
        "features": ["Wide.", "Tall."],
        "genres": ["Drama", "War"],
        "brand": "Acme",
        "title": " A\n mug ",
        "year": 1,
    }
    assert record_sentences(record, "x:1") == ["A mug", "Brand: Acme", "Category: Drama, War", "Wide.", "Tall."]


def test_a_record_without_text_has_no_sentences() -> None:
    assert record_sentences({"item_id": "1", "title": None, "features": [], "description": " "}, "x:1") == []


def test_descriptions_are_split_where_sentences_end_and_not_at_abbreviations() -> None:
    pytest.importorskip("sentencex", reason="the prep extra is not installed")
    record = {"description": ["Dr. Smith uses it daily. It is 3.5 in. wide!", "Really?"]}
    expected = ["Dr. Smith uses it daily.", "It is 3.5 in. wide!", "Really?"]
    assert record_sentences(record, "x:1") == expected


def test_features_and_descriptions_are_cleaned_and_split_and_the_title_is_not() -> None:
    item = Item(
        "1",
        title="<b>Dr. Seuss.</b> The Cat&#39;s Hat.",
        brand="Acme &amp; Co.",
        category=("Toys", "toys", "<i></i>", "Toys"),
        features=("Visit one of our stores. Present the gift card there.", "Canada"),
        description=("<p>It is soft.<p>Product Description<p>It is very warm. Really!",),
    )
    assert sentences_of(item) == [
        "Dr. Seuss. The Cat's Hat.",
        "Brand: Acme & Co.",
        "Category: Toys, toys",
        "Visit one of our stores.",
        "Present the gift card there.",
        "Canada",
        "It is soft.",
        "It is very warm. Really!",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fast delivery. Your card is sent at once.", ["Fast delivery. Your card is sent at once."]),
        ("Eat. Shop. Relax.", ["Eat. Shop. Relax."]),
        ("It is so good. Wow! Yes!", ["It is so good. Wow! Yes!"]),
        ("It is so good. Wow! It is so big.", ["It is so good.", "Wow! It is so big."]),
        ("这是一个句子。这是另一个。", ["这是一个句子。", "这是另一个。"]),
    ],
)
def test_scraps_of_one_or_two_words_do_not_use_up_an_items_sentences(text: str, expected: list[str]) -> None:
    assert sentences_of(Item("1", description=(text,))) == expected


def test_what_is_dropped_is_counted_by_reason() -> None:
    dropped: Counter[str] = Counter()
    item = Item(
        "1",
        title="var aPageStart = (new Date()).getTime();\nvar ue_t0=1;",
        features=("A wide brim.", "• A WIDE BRIM", "***", "See more product details", "word " * 300, "x" * 1001),
    )
    sentences = sentences_of(item, dropped=dropped)
    assert sentences == ["A wide brim.", "word " * 199 + "word", "x" * 1000]
    assert all(len(sentence) <= MAX_CHARACTERS for sentence in sentences)
    assert dropped == {
        "script": 1,
        "repeated": 1,
        "without a letter or digit": 1,
        "boilerplate": 1,
        "words beyond the 1,000th character": 2,
    }


def test_an_item_with_500_sentences_keeps_the_first_ten_and_does_not_look_at_the_rest() -> None:
    features = tuple(f"This is sentence {i}." for i in range(500))
    expected = [f"This is sentence {i}." for i in range(10)]
    assert sentences_of(Item("1", features=features)) == expected
    assert sentences_of(Item("1", description=(" ".join(features),))) == expected
    assert sentences_of(Item("1", sentences=features)) == expected
    unread = Item("1", features=(*features[:10], object()))  # type: ignore[arg-type]
    assert sentences_of(unread) == expected


def test_ready_sentences_are_not_cleaned_or_joined() -> None:
    ready = ("<b>x</b> &amp;", "Yes.", "Product Description", "half \ud83d pair", "y" * 2000)
    assert sentences_of(Item("1", title="t", sentences=ready)) == [*ready[:3], "half pair", "y" * 2000]


def test_without_sentencex_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(UserError, match=r'pip install "recbole-msm4sr\[prep\]"'):
        record_sentences({"description": "One. Two."}, "x:1")
    assert record_sentences({"title": "One"}, "x:1") == ["One"]  # nothing to split, nothing needed


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"sentences": "not a list"}, '"sentences" must be a list of strings'),
        ({"title": 3}, '"title" must be a string or a list of strings'),
        ({"description": ["a", None]}, '"description" must be'),
    ],
)
def test_fields_of_the_wrong_type_are_named_with_their_line(record: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"text.jsonl:7: {message}"):
        record_sentences(record, "text.jsonl:7")
