"""Metadata files -> catalogue items."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dataset_prep.readers.amazon_metadata import read_amazon_2018, read_amazon_2023
from dataset_prep.readers.custom_items import read_custom
from dataset_prep.readers.items import MAX_FIELD, Item
from dataset_prep.readers.rejected import Rejected
from recbole_msm4sr.core.errors import UserError

SERVER = "https://m.media-amazon.com/images/I"


def write_lines(path: Path, *records: dict[str, Any] | bytes) -> Path:
    path.write_bytes(b"\n".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in records) + b"\n")
    return path


def one_2018(path: Path, **fields: Any) -> Item:
    (item,) = read_amazon_2018(write_lines(path / "meta.json", {"asin": "B1", **fields}), Rejected())
    return item


def one_2023(path: Path, **fields: Any) -> Item:
    (item,) = read_amazon_2023(write_lines(path / "meta.jsonl", {"parent_asin": "B1", **fields}), Rejected())
    return item


def one_custom(path: Path, **fields: Any) -> Item:
    (item,) = read_custom(write_lines(path / "my.jsonl", {"item_id": "B1", **fields}), Rejected())
    return item


def test_2018_fields_are_read_from_strings_and_from_lists(tmp_path: Path) -> None:
    lists = {"feature": ["f"], "description": ["d", "", "e"], "category": ["A", "B"], "imageURL": []}
    assert one_2018(tmp_path, title="t", brand="b", **lists) == Item(
        "B1", title="t", brand="b", category=("A", "B"), features=("f",), description=("d", "e")
    )
    strings = {"feature": "f", "description": "d", "category": "A", "title": None, "brand": float("nan")}
    assert one_2018(tmp_path, **strings) == Item("B1", category=("A",), features=("f",), description=("d",))


def test_2018_pictures_come_best_first_with_the_thumbnail_as_the_last_resort(tmp_path: Path) -> None:
    item = one_2018(
        tmp_path,
        imageURLHighRes=[f"{SERVER}/1.jpg", f"{SERVER}/2.jpg"],
        imageURL=[f"{SERVER}/1._SX38_SY50_CR,0,0,38,50_.jpg", f"{SERVER}/2._SR80,60_.jpg", f"{SERVER}/3._SS40_.jpg"],
    )
    assert item.pictures == (
        (f"{SERVER}/1.jpg", f"{SERVER}/1._SX38_SY50_CR,0,0,38,50_.jpg"),
        (f"{SERVER}/2.jpg", f"{SERVER}/2._SR80,60_.jpg"),
        (f"{SERVER}/3.jpg", f"{SERVER}/3._SS40_.jpg"),
    )
    older = one_2018(tmp_path, image=f"{SERVER}/1._SS40_.jpg")
    assert older.pictures == ((f"{SERVER}/1.jpg", f"{SERVER}/1._SS40_.jpg"),)


@pytest.mark.parametrize(
    ("category", "path", "leaked"),
    [
        (
            ["Gift Cards", "Gift Cards", "No fees.", "Any design"],
            ["Gift Cards", "Gift Cards"],
            ["No fees.", "Any design"],
        ),
        (["Gift Cards", "</span></span></span>", "Starbucks"], ["Gift Cards"], ["Starbucks"]),
        (["Arts, Crafts & Sewing", "Great for going out or by the pool any day"], ["Arts, Crafts & Sewing"], ["Great"]),
    ],
)
def test_2018_features_that_leaked_into_the_category_are_features(
    tmp_path: Path, category: list[str], path: list[str], leaked: list[str]
) -> None:
    item = one_2018(tmp_path, category=category, feature=["First"])
    assert list(item.category) == path
    assert [feature.split(" for")[0] for feature in item.features] == ["First", *leaked]


@pytest.mark.parametrize(
    ("written", "brand"),
    [
        ("by\n    \n    Acme", "Acme"),
        ("Visit Amazon's Paulo Coelho Page", "Paulo Coelho"),
        ("Visit the Acme Store", "Acme"),
        ("Brand: Acme", "Acme"),
        ("The Container Store", "The Container Store"),
        ("Visit Denmark", "Visit Denmark"),
    ],
)
def test_a_byline_is_reduced_to_the_brand(tmp_path: Path, written: str, brand: str) -> None:
    assert one_2018(tmp_path, brand=written).brand == brand


def test_2023_fields_and_both_forms_of_images(tmp_path: Path) -> None:
    pictures = [
        {"hi_res": f"{SERVER}/1_L.jpg", "large": f"{SERVER}/1.jpg", "thumb": f"{SERVER}/1_S.jpg", "variant": "MAIN"},
        {"hi_res": None, "large": f"{SERVER}/2.jpg", "thumb": f"{SERVER}/2_S.jpg", "variant": "PT01"},
    ]
    columns = {key: [picture[key] for picture in pictures] for key in ("hi_res", "large", "thumb", "variant")}
    expected = ((f"{SERVER}/1_L.jpg", f"{SERVER}/1.jpg", f"{SERVER}/1_S.jpg"), (f"{SERVER}/2.jpg", f"{SERVER}/2_S.jpg"))
    for images in (pictures, columns):
        item = one_2023(
            tmp_path,
            title="t",
            store="Acme",
            features=["f"],
            description=["d"],
            categories=["A", "B"],
            main_category="M",
            images=images,
            details={"Brand": "Other"},
        )
        assert item == Item("B1", "t", "Acme", ("A", "B"), ("f",), ("d",), pictures=expected)


@pytest.mark.parametrize("details", [{"Brand": "Acme"}, '{"Brand": "Acme"}'])
def test_2023_main_category_and_details_stand_in_for_what_is_missing(tmp_path: Path, details: object) -> None:
    item = one_2023(tmp_path, store=None, categories=[], main_category="All Beauty", details=details, images=[])
    assert item == Item("B1", brand="Acme", category=("All Beauty",))


@pytest.mark.parametrize("details", ["no JSON {", "[1]", "[" * 100_000, "\ud800", 3, None], ids=lambda x: str(x)[:9])
def test_useless_details_of_2023_are_ignored(tmp_path: Path, details: object) -> None:
    assert one_2023(tmp_path, title="t", details=details) == Item("B1", title="t")


@pytest.mark.parametrize(
    "address",
    [
        "/etc/passwd",
        "x.jpg",
        "file:///etc/passwd",
        "//host/x.jpg",
        "ftp://x.org/a.jpg",
        "data:image/png;base64,AA",
        "http://",
        "https:///a.jpg",
        "http://[bad/a.jpg",
        "https://x.org/a b.jpg",
        "http://x.org/\ud800",
        "http://x.org/\0",
        "http://x.org/" + "a" * 3000,
    ],
    ids=ascii,
)
def test_only_http_and_https_urls_of_pictures_are_passed_on(tmp_path: Path, address: str) -> None:
    rejected = Rejected()
    path = write_lines(tmp_path / "m.json", {"asin": "B1", "imageURLHighRes": [address, f"{SERVER}/1.jpg"]})
    (item,) = read_amazon_2018(path, rejected)
    assert item.pictures == ((f"{SERVER}/1.jpg",),)
    assert rejected.by_reason == {"picture is not an http or https URL": 1}
    assert "m.json:1: " in rejected.examples[0]


def test_custom_fields_keep_their_order_and_unknown_ones_follow(tmp_path: Path) -> None:
    item = one_custom(
        tmp_path,
        year="1995",
        genres=["Drama", "War"],
        cast_members=["Tom Hanks", " Tim Allen"],
        notes="It rains. It stops.",
        poster="https://x.org/a.jpg",
        rating=4.5,
        nested={"a": "b"},
        mixed=["a", 1],
        title="t",
        brand="b",
        features="f",
        description="d",
        images=["https://x.org/1.jpg", "https://x.org/2.jpg"],
    )
    assert item == Item(
        "B1",
        title="t",
        brand="b",
        category=("Drama", "War"),
        features=("f",),
        description=("d", "Year: 1995", "Cast members: Tom Hanks, Tim Allen", "It rains. It stops."),
        pictures=(("https://x.org/1.jpg",), ("https://x.org/2.jpg",)),
    )


def test_custom_sentences_are_taken_as_they_are(tmp_path: Path) -> None:
    assert one_custom(tmp_path, sentences=["<b>x</b>", "y"], title="t").sentences == ("<b>x</b>", "y")
    assert one_custom(tmp_path, sentences=[]).sentences == ()
    assert one_custom(tmp_path, sentences=None).sentences is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{'asin': 'B2'}", "not valid JSON"),
        (b'{"asin": "\xff"}', "not UTF-8"),
        (b'["B2"]', "not a JSON object"),
        ({"title": "t"}, 'no "asin"'),
        ({"asin": ""}, '"asin" is missing'),
        ({"asin": 5}, '"asin" is not a string'),
        ({"asin": "a\tb"}, '"asin" holds a tab or a line break'),
        ({"asin": "[PAD]"}, '"asin" is RecBole\'s padding'),
        (b'{"asin": "\\ud800"}', '"asin" is not valid Unicode'),
        ({"asin": "B2", "title": 5}, '"title" must be a string or a list of strings'),
        ({"asin": "B2", "description": ["a", 1]}, '"description" must be a string or a list of strings'),
        ({"asin": "B2", "imageURL": {"a": 1}}, '"imageURL" must be a URL or a list of URLs'),
    ],
)
def test_a_line_that_cannot_be_used_is_counted_with_its_number(
    tmp_path: Path, line: bytes | dict[str, Any], reason: str
) -> None:
    rejected = Rejected()
    path = write_lines(tmp_path / "meta.json", {"asin": "B1"}, b"", line, {"asin": "../B3"})
    assert [item.item_id for item in read_amazon_2018(path, rejected)] == ["B1", "../B3"]
    assert rejected.by_reason == {reason: 1}
    assert rejected.examples[0].startswith(f"{path}:3: {reason}")


@pytest.mark.parametrize("images", [3, "https://x.org/a.jpg", ["https://x.org/a.jpg"], {"large": 3}])
def test_2023_images_of_another_shape_are_counted(tmp_path: Path, images: object) -> None:
    rejected = Rejected()
    path = write_lines(tmp_path / "meta.jsonl", {"parent_asin": "B0"}, {"parent_asin": "B1", "images": images})
    assert [item.item_id for item in read_amazon_2023(path, rejected)] == ["B0"]
    assert rejected.total == 1


@pytest.mark.parametrize(("lines", "message"), [([b""], "it is empty"), ([b"<html>", b"x"], "2 of 2 lines left out")])
def test_a_file_without_a_single_record_is_a_user_error(tmp_path: Path, lines: list[bytes], message: str) -> None:
    path = write_lines(tmp_path / "meta.json", *lines)
    with pytest.raises(UserError, match=f"has no record of an item: {message}"):
        list(read_amazon_2018(path, Rejected()))


def test_a_damaged_gzip_file_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "meta.json.gz"
    whole = gzip.compress(b"".join(json.dumps({"asin": f"B{i}"}).encode() + b"\n" for i in range(5000)))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged or cut off"):
        list(read_amazon_2018(path, Rejected()))


def test_a_field_is_read_up_to_its_limit(tmp_path: Path) -> None:
    item = one_2018(tmp_path, title="a" * (MAX_FIELD + 1), description=["b" * (MAX_FIELD - 1), "ccc", "d"])
    assert len(item.title) == MAX_FIELD
    assert [len(entry) for entry in item.description] == [MAX_FIELD - 1, 1]
