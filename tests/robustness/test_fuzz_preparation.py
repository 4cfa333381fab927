"""Damaged raw files: prepared without what is damaged, which is counted, or refused by name."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

from damage import Damage, bytes_damage, damaged, inputs, table_damage
from hypothesis import given
from hypothesis import strategies as st
from outcome import outcome_of

from dataset_prep.__main__ import main

_EVENTS = [(f"u{user}", f"i{(user * 3 + time) % 9}", 1000 + time) for user in range(9) for time in range(6)]
_TABLE = "user_id\titem_id\ttimestamp\n" + "".join(f"{user}\t{item}\t{time}\n" for user, item, time in _EVENTS)
_ITEMS = [
    {"item_id": f"i{item}", "title": f"Thing {item}", "description": ["It is blue. It is round."]} for item in range(9)
]
_TEXT = "".join(json.dumps(item) + "\n" for item in _ITEMS)
_REVIEWS = "".join(
    json.dumps({"reviewerID": user, "asin": item, "overall": 5.0, "unixReviewTime": time}) + "\n"
    for user, item, time in _EVENTS
)
_METADATA = "".join(
    json.dumps({"asin": item["item_id"], "title": item["title"], "description": item["description"]}) + "\n"
    for item in _ITEMS
)


def _prepare(argv: list[str], names: list[str]) -> None:
    shutil.rmtree("dataset", ignore_errors=True)
    outcome = outcome_of(main, [*argv, "--steps=interactions,text", "--out=dataset/some"], names)
    made = Path("dataset/some/some.inter").is_file()
    if outcome.works:
        assert made
        assert Path("dataset/some/text.jsonl").is_file()
    assert not list(Path("dataset").rglob("*.tmp")), "something half-written is left"


@inputs(7)
@given(st.lists(table_damage, max_size=2), st.lists(bytes_damage, max_size=2), st.sampled_from(["tsv", "csv"]))
def test_tables_and_catalogues_of_ones_own(of_table: list[Damage], of_text: list[Damage], suffix: str) -> None:
    table = _TABLE.encode() if suffix == "tsv" else _TABLE.replace("\t", ",").encode()
    inter, text = Path(f"my.{suffix}"), Path("my.jsonl")
    inter.write_bytes(damaged(table, of_table))
    text.write_bytes(damaged(_TEXT.encode(), of_text))
    _prepare(["custom", f"--inter={inter}", f"--text={text}", "--min-user=1"], [inter.name, text.name])


@inputs(6)
@given(st.lists(bytes_damage, max_size=2), st.lists(bytes_damage, max_size=2), st.lists(bytes_damage, max_size=1))
def test_files_of_the_2018_release(reviews: list[Damage], metadata: list[Damage], packed: list[Damage]) -> None:
    raw = Path("raw")
    raw.mkdir(exist_ok=True)
    (raw / "Gift_Cards.json.gz").write_bytes(damaged(gzip.compress(damaged(_REVIEWS.encode(), reviews)), packed))
    (raw / "meta_Gift_Cards.json.gz").write_bytes(gzip.compress(damaged(_METADATA.encode(), metadata)))
    argv = ["amazon", "--release=2018", "--category=Gift_Cards", f"--raw={raw}", "--min-user=1"]
    _prepare(argv, ["Gift_Cards.json.gz"])
