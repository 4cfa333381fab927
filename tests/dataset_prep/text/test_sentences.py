"""Records -> sentences."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dataset_prep.records import read_image_keywords, read_records, write_records
from dataset_prep.text.sentences import read_sentences, record_sentences
from recbole_msm4sr.errors import UserError


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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{nonsense", "is not valid JSON"),
        ("[1]", "is a JSON list, not an object"),
        ('{"sentences": []}', 'has no "item_id"'),
        ('{"item_id": 5}', '"item_id" is 5: it must be a string'),
        ('{"item_id": "a\\tb"}', "it must be a string, not empty, without tabs"),
        ('{"item_id": "first"}', "item 'first' stands on line 1 already"),
        (b'{"item_id": "\xff"}', "is not UTF-8"),
    ],
)
def test_a_bad_line_is_reported_with_file_and_line_number(tmp_path: Path, line: str | bytes, message: str) -> None:
    path = tmp_path / "text.jsonl"
    bad = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(b'{"item_id": "first"}\n\n' + bad + b"\n")
    with pytest.raises(UserError, match=r"text\.jsonl:3: ") as caught:
        list(read_records(path))
    assert message in str(caught.value)


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file"):
        read_sentences(tmp_path / "absent.jsonl")


def test_records_survive_writing_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "image_keywords.jsonl"
    write_records(
        path, [{"item_id": "é", "keywords": [["mug"], []]}, {"item_id": "2", "keywords": []}, {"item_id": "3"}]
    )
    assert read_image_keywords(path) == {"é": [["mug"], []], "2": [], "3": []}


@pytest.mark.parametrize("keywords", ["mug", ["mug"], [[1]], {"a": 1}])
def test_keywords_of_the_wrong_shape_are_refused(tmp_path: Path, keywords: object) -> None:
    path = tmp_path / "image_keywords.jsonl"
    path.write_text(json.dumps({"item_id": "1", "keywords": keywords}), encoding="utf-8")
    with pytest.raises(UserError, match=r"image_keywords\.jsonl:1: \"keywords\" must be a list"):
        read_image_keywords(path)
