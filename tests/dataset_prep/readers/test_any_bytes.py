"""Whatever a file holds, a reader yields what it can use, counts the rest, or says in one line what is wrong."""

from __future__ import annotations

import gzip
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_prep.readers.amazon_metadata import read_amazon_2018, read_amazon_2023
from dataset_prep.readers.amazon_reviews import amazon_events
from dataset_prep.readers.custom_items import read_custom
from dataset_prep.readers.jsonl import read_records
from dataset_prep.readers.rejected import Rejected
from dataset_prep.readers.tables import table_events
from recbole_msm4sr.core.errors import UserError

READERS: dict[str, Callable[[Path, Rejected], Iterator[Any]]] = {
    "reviews": lambda path, rejected: amazon_events(path, 2018, rejected),
    "reviews of 2023": lambda path, rejected: amazon_events(path, 2023, rejected),
    "metadata": read_amazon_2018,
    "metadata of 2023": read_amazon_2023,
    "custom": read_custom,
    "records": lambda path, rejected: read_records(path),
    "table": table_events,
}
TABLE = [b"user,item,time\n", b"user\titem\ttime\n", b"u,i,1\n", b"u\ti\t1\n", b'"', b",", b"\t", b"\n", b"\r", b"PAR1"]
RECORDS = [
    b'{"item_id": "1"}\n',
    b'{"item_id": {}}\n',
    b'{"item_id": "\x1b[31m"}\n',
    b'{"asin": "B", "reviewerID": "A", "unixReviewTime": 1}\n',
    b'{"asin": "A", "asin": "B"}\n',
    b'{"asin": "B", "title": [',
]
MARKS = [b"{", b"}", b"[", b"]", b'"a": ', b"NaN", b"1e999", b"9" * 5000, b"[" * 5000]
ODD = [b"\0", b"\xff", b"\xef\xbb\xbf", b"\x1b[31m", "\u202e".encode(), b"\x1f\x8b"]
ANYTHING = st.lists(st.sampled_from(TABLE + RECORDS + MARKS + ODD) | st.binary(max_size=8), max_size=12)
COMMANDS_A_TERMINAL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    pieces=ANYTHING,
    damage=st.sampled_from("-zc"),
)
def test_any_file_is_read_counted_or_refused_in_one_line(reader: str, pieces: list[bytes], damage: str) -> None:
    content = b"".join(pieces)
    content = {"-": content, "z": gzip.compress(content), "c": gzip.compress(content)[:-5]}[damage]
    rejected = Rejected()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        message = refusal(READERS[reader](path, rejected))
    if message is not None:
        assert message.startswith(str(path))
        assert len(message) < 3000
    said = "".join([message or "", *rejected.examples, *rejected.by_reason])
    assert not COMMANDS_A_TERMINAL.search(said)


def refusal(stream: Iterator[Any]) -> str | None:
    """The message of the UserError that reading to the end comes to, if it does."""
    try:
        list(stream)
    except UserError as error:
        return str(error)
    return None
