"""The data set's own files of JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataset_prep.readers.jsonl import read_image_keywords, read_records, write_records
from recbole_msm4sr.core.errors import UserError


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{nonsense", "not valid JSON"),
        ("[1]", "not a JSON object (list)"),
        ("[" * 100_000, "not valid JSON"),
        ('{"item_id": "1", "x": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"item_id": "1", "item_id": "2"}', "names a key twice"),
        ('{"sentences": []}', 'has no "item_id"'),
        ('{"item_id": 5}', '"item_id" is 5, which is not a string'),
        ('{"item_id": "a\\tb"}', "which holds a tab or a line break"),
        ('{"item_id": "first"}', "item 'first' stands on line 1 already"),
        (b'{"item_id": "\xff"}', "not UTF-8"),
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
        list(read_records(tmp_path / "absent.jsonl"))


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
