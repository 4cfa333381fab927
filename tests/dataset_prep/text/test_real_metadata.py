"""Real metadata goes through the text step; skipped where it is absent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dataset_prep.layout import Layout
from dataset_prep.readers.amazon_metadata import read_amazon_2018
from dataset_prep.readers.custom_items import read_custom
from dataset_prep.readers.rejected import Rejected
from dataset_prep.text.build import build_text, items_with
from dataset_prep.text.sentences import MAX_CHARACTERS

DATA = Path(__file__).parents[3] / ".." / "shared" / "data"
GIFT_CARDS = DATA / "amazon-gift-cards" / "meta_Gift_Cards.json.gz"
ML_100K = DATA / "ml-100k" / "text.jsonl"
NO_TEXT = re.compile(r"</?[a-zA-Z]|&(?:\w+|#\d+);|https?:|www\.|[\x00-\x1f\x7f-\x9f]|\s\s|^\s|\s$")


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.is_file(), reason=f"{path.name} is not on this machine")


def build(layout: Layout, items: Any, rejected: Rejected) -> tuple[dict[str, Any], dict[str, list[str]]]:
    figures = build_text(layout, items, rejected=rejected)
    records = [json.loads(line) for line in layout.sentences.read_text(encoding="utf-8").splitlines()]
    return figures, {record["item_id"]: record["sentences"] for record in records}


def assert_clean(by_item: dict[str, list[str]]) -> None:
    for sentences in by_item.values():
        assert 1 <= len(sentences) <= 10
        assert len({sentence.casefold() for sentence in sentences}) == len(sentences)
        for sentence in sentences:
            assert not NO_TEXT.search(sentence), sentence
            assert len(sentence) <= MAX_CHARACTERS


@needs(GIFT_CARDS)
def test_gift_cards_of_the_2018_release_become_clean_sentences(tmp_path: Path) -> None:
    rejected = Rejected()
    figures, by_item = build(Layout.of(tmp_path / "gift"), read_amazon_2018(GIFT_CARDS, rejected), rejected)
    assert rejected.total == 0
    assert (figures["items"], figures["with_text"], figures["with_pictures"]) == (1547, 1547, 660)
    assert_clean(by_item)
    assert by_item["B001BKEWF2"] == [  # its description ends with the disclaimer of dietary supplements
        "Serendipity 3 $100.00 Gift Card",
        "Brand: Serendipity 3",
        "Category: Gift Cards",
        "Gift card for the purchase of goods or services at Serendipity 3 in New York City only.",
        "Not valid for online purchases.",
    ]
    assert by_item["B004KNWWOA"] == [  # its features stand in the list of categories
        "Amazon Gift Card - Print - Graduation (Congratulations)",
        "Category: Gift Cards",
        "No expiration, no fees.",
        "Redeemable toward millions of items storewide on Amazon.com.",
        "Multiple denominations. Choose your amount from $1.00 to $2,000.",
        "Variety of designs for any occasion.",
    ]
    found = items_with(read_amazon_2018(GIFT_CARDS, Rejected()))
    assert {modality: len(items) for modality, items in found.items()} == {"text": 1547, "image": 660}


@needs(ML_100K)
def test_movies_of_ml_100k_become_clean_sentences(tmp_path: Path) -> None:
    rejected = Rejected()
    figures, by_item = build(Layout.of(tmp_path / "ml"), read_custom(ML_100K, rejected), rejected)
    assert rejected.total == 0
    assert (figures["items"], figures["with_text"], figures["with_pictures"]) == (1682, 1682, 0)
    assert_clean(by_item)
    assert by_item["516"] == [
        "Local Hero",
        "Category: Comedy",
        "An American oil company sends a man to Scotland to buy up an entire village where they want to build a"
        " refinery.",
        "But things don't go as expected.",
        "Year: 1983",
    ]
