"""Events of the Amazon releases, from lines in the formats that the releases have."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from dataset_prep.readers.amazon_reviews import amazon_events
from dataset_prep.readers.events import Event
from dataset_prep.readers.rejected import Rejected
from recbole_msm4sr.core.errors import UserError

REVIEW_2018 = {
    "overall": 5.0,
    "vote": "3",
    "verified": True,
    "reviewTime": "10 20, 2014",
    "reviewerID": "A1NKJW0TNRVS7O",
    "asin": "B0000DIWNZ",
    "style": {"Size:": " 4 Count"},
    "reviewerName": 'Tamara "T" Ω',
    "reviewText": 'It says "asin": "B000000000" on the box.',
    "summary": "Good\nclinging",
    "unixReviewTime": 1413763200,
}
REVIEW_2023 = {
    "rating": 4.0,
    "title": "Fits",
    "text": "It does.",
    "images": [],
    "asin": "B07DJWBYKP",
    "parent_asin": "B07DK1H3H5",
    "user_id": "AGKHLEW2SOWHNMFQIJGBECAF7INQ",
    "timestamp": 1588687728923,
    "helpful_vote": 0,
    "verified_purchase": True,
}
EVENT_2018 = ("A1NKJW0TNRVS7O", "B0000DIWNZ", 1413763200.0)
EVENT_2023 = ("AGKHLEW2SOWHNMFQIJGBECAF7INQ", "B07DK1H3H5", 1588687728.923)


def read(path: Path, release: int) -> tuple[list[Event], Rejected]:
    rejected = Rejected()
    return list(amazon_events(path, release, rejected)), rejected


@pytest.mark.parametrize(
    ("release", "content", "event"),
    [
        (2018, json.dumps(REVIEW_2018), EVENT_2018),
        (2023, json.dumps(REVIEW_2023), EVENT_2023),
        (2018, "B0000DIWNZ,A1NKJW0TNRVS7O,5.0,1413763200", EVENT_2018),
        (2023, "AGKHLEW2SOWHNMFQIJGBECAF7INQ,B07DK1H3H5,4.0,1588687728923", EVENT_2023),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_reviews_and_ratings_of_both_releases_give_the_event_in_seconds(
    tmp_path: Path, release: int, content: str, event: Event, compressed: bool
) -> None:
    path = tmp_path / "raw"
    data = f"{content}\n\n{content}".encode()  # a blank line, and no line break at the end
    path.write_bytes(gzip.compress(data) if compressed else data)
    events, rejected = read(path, release)
    assert events == [event, event]
    assert rejected.total == 0


def test_the_header_of_the_ratings_of_2023_says_where_the_columns_are(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,parent_asin,rating,timestamp,history\nU,P,5.0,2000,P1 P2\n")
    assert read(path, 2023)[0] == [("U", "P", 2.0)]


def test_ratings_of_2014_are_refused_instead_of_taking_users_for_items(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("A39HTATAQ9V7YF,0205616461,5.0,1369699200\n")
    with pytest.raises(UserError, match=r"ratings\.csv:1: the user stands before the item"):
        read(path, 2018)


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in REVIEW_2018.items() if name != field}).encode()


def having(**fields: object) -> bytes:
    return json.dumps({**REVIEW_2018, **fields}).encode()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (json.dumps(REVIEW_2018).encode()[:-20], "not valid JSON"),
        (b'{"reviewerID": "\xff"}', "not UTF-8"),
        (b'{"unixReviewTime": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (without("reviewerID"), 'no "reviewerID"'),
        (without("asin"), 'no "asin"'),
        (without("unixReviewTime"), 'no "unixReviewTime"'),
        (having(asin=None), 'no "asin"'),
        (having(asin=5), '"asin" is not a string'),
        (having(asin=["B"]), '"asin" is not a string'),
        (having(asin=""), '"asin" is missing'),
        (having(reviewerID="null"), '"reviewerID" is missing'),
        (having(reviewerID="a\tb"), '"reviewerID" holds a tab or a line break'),
        (having(reviewerID='"a'), '"reviewerID" starts with a quote'),
        (having(reviewerID="\ud800"), '"reviewerID" is not valid Unicode'),
        (having(unixReviewTime="soon"), '"unixReviewTime" is not a number'),
        (having(unixReviewTime=True), '"unixReviewTime" is not a number'),
        (having(unixReviewTime=10**400), '"unixReviewTime" is not a number'),
        (having(unixReviewTime=float("nan")), '"unixReviewTime" is not a number'),
        (having(unixReviewTime=1e39), '"unixReviewTime" is beyond float32\'s 3.4e38'),
        (having(unixReviewTime="1_000"), '"unixReviewTime" is not a number'),
        (having(reviewerID="a\0"), '"reviewerID" holds a control character'),
    ],
)
def test_a_bad_review_is_counted_with_its_line_and_the_others_are_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = tmp_path / "reviews.json"
    good = json.dumps(REVIEW_2018).encode()
    path.write_bytes(b"\n".join([good, line, good]) + b"\n")
    events, rejected = read(path, 2018)
    assert events == [EVENT_2018, EVENT_2018]
    assert rejected.by_reason == {reason: 1}
    assert rejected.examples[0].startswith(f"{path}:2: {reason}")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"B1,A1,5.0", "does not have 4 cells"),
        (b"B1,A1,5.0,1,2", "does not have 4 cells"),
        (b"B1,A\xff,5.0,1", "not UTF-8"),
        (b"B1,,5.0,1", '"reviewerID" is missing'),
        (b"B1,A1,5.0,inf", '"unixReviewTime" is not a number'),
    ],
)
def test_a_bad_rating_is_counted_with_its_line_and_the_others_are_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = tmp_path / "ratings.csv"
    path.write_bytes(b"B1,A1,5.0,1\r\n" + line + b"\r\nB1,A1,5.0,-3\r\n")
    events, rejected = read(path, 2018)
    assert events == [("A1", "B1", 1.0), ("A1", "B1", -3.0)]
    assert rejected.by_reason == {reason: 1}
    assert rejected.examples[0].startswith(f"{path}:2: ")


def test_an_empty_file_has_no_events(tmp_path: Path) -> None:
    path = tmp_path / "reviews.json"
    path.write_bytes(b"\n")
    assert read(path, 2018)[0] == []
