"""Catalogue items -> text.jsonl and picture_sources.jsonl."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_disk import largest_file

from dataset_prep.encode.sentence_features import text_sentences
from dataset_prep.layout import Layout
from dataset_prep.readers.items import Item
from dataset_prep.readers.rejected import Rejected
from dataset_prep.text.build import build_text, items_with
from dataset_prep.workers import ordered_map
from recbole_msm4sr.core.errors import UserError

NAMES = {"text.jsonl", "picture_sources.jsonl", "tiny.item"}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(tmp_path / "dataset" / "tiny")


def item(item_id: str, title: str = "A mug", n_pictures: int = 0) -> Item:
    pictures = tuple((f"https://x.org/{item_id}/{i}.jpg", f"https://x.org/{i}_s.jpg") for i in range(n_pictures))
    return Item(item_id, title=title, pictures=pictures)


def read(path: Path) -> dict[str, Any]:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {record.pop("item_id"): next(iter(record.values())) for record in records}


def test_exactly_the_items_asked_for_are_written_found_ones_first(layout: Layout) -> None:
    items = [item("c", "Sea", 2), item("x"), item("a", "Ä", 0), item("../b", "Bee", 12)]
    rejected = Rejected()
    rejected.add("meta.json:9", "not valid JSON")
    figures = build_text(layout, iter(items), tokens=["gone", "a", "../b", "c", "lost"], rejected=rejected)
    assert list(read(layout.sentences).items()) == [
        ("c", ["Sea"]),
        ("a", ["Ä"]),
        ("../b", ["Bee"]),
        ("gone", []),
        ("lost", []),
    ]
    pictures = read(layout.picture_sources)
    assert list(pictures) == ["c", "a", "../b", "gone", "lost"]
    assert [len(found) for found in pictures.values()] == [2, 0, 10, 0, 0]
    assert pictures["c"][0] == ["https://x.org/c/0.jpg", "https://x.org/0_s.jpg"]
    assert figures == {
        "items": 5,
        "with_text": 3,
        "with_pictures": 2,
        "sentences": 3,
        "sentences_per_item": 0.6,
        "items_by_sentences": {"0": 2, "1": 3},
        "pictures": 12,
        "dropped": {},
        "commonest": {"Sea": 0.2, "Ä": 0.2, "Bee": 0.2},
        "attributes": {"items": 5, "with_class": 0, "with_brand": 0, "classes": 0, "brands": 0},
        "without_record": 2,
        "without_record_examples": ["gone", "lost"],
        "records_of_other_items": 1,
        "repeats": {"identical": 0, "conflicting": 0},
        "rejected": rejected.as_dict(),
    }
    assert json.loads(json.dumps(figures)) == figures
    assert {path.name for path in layout.root.rglob("*") if path.is_file()} == NAMES


def test_all_items_are_written_when_none_are_named_and_the_limits_hold(layout: Layout) -> None:
    items = [Item("1", title="One", brand="Two"), item("2", n_pictures=3)]
    build_text(layout, items, max_sentences=1, max_pictures=2, rejected=Rejected())
    assert read(layout.sentences) == {"1": ["One"], "2": ["A mug"]}
    assert [len(pictures) for pictures in read(layout.picture_sources).values()] == [0, 2]


def test_the_first_record_of_an_item_counts_and_repeats_are_told_apart(layout: Layout) -> None:
    items = [item("1", "First"), item("1", "First"), item("1", "Second"), item("2"), item("9"), item("9")]
    figures = build_text(layout, items, tokens=["1", "2"], rejected=Rejected())
    assert read(layout.sentences) == {"1": ["First"], "2": ["A mug"]}
    assert figures["repeats"] == {"identical": 1, "conflicting": 1}
    assert figures["records_of_other_items"] == 2


def test_what_is_written_reads_back_as_it_is(layout: Layout) -> None:
    text = Item("1", title="é \ud800 “x” &lt;b&gt;", description=("Eat. Shop. Relax. See <b>it</b> here now.",))
    build_text(layout, [text], rejected=Rejected())
    assert (
        dict(text_sentences(layout.sentences, 10))
        == read(layout.sentences)
        == {"1": ['é "x"', "Eat. Shop. Relax. See it here now."]}
    )


def test_workers_write_the_same_bytes_as_one_process(layout: Layout, tmp_path: Path) -> None:
    items = [Item(str(i), title=f"Mug {i}", description=(f"It holds {i} litres. Mug {i}",)) for i in range(700)]
    other = Layout.of(tmp_path / "dataset" / "other")
    tokens = [*map(str, range(699, -1, -1)), "gone"]
    alone = build_text(layout, iter(items), tokens=tokens, rejected=Rejected())
    together = build_text(other, iter(items), tokens=tokens, workers=2, rejected=Rejected())
    assert together == alone
    assert other.sentences.read_bytes() == layout.sentences.read_bytes()
    assert other.picture_sources.read_bytes() == layout.picture_sources.read_bytes()
    assert other.items.read_bytes() == layout.items.read_bytes()


def test_a_parallel_map_reads_no_more_than_three_elements_a_worker_ahead() -> None:
    read_so_far = []

    def elements() -> Iterator[int]:
        for number in range(50):
            read_so_far.append(number)
            yield number

    results = ordered_map(abs, elements(), 2)
    assert next(results) == (0, 0)
    assert len(read_so_far) == 6
    assert [made for _, made in results] == list(range(1, 50))


SLOW_MAP = """
import time
from dataset_prep.workers import ordered_map
if __name__ == "__main__":
    for _ in ordered_map(time.sleep, [0.01] * 100_000, 2):
        print("under way", flush=True)
"""


@pytest.mark.parametrize("stopped_by", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent_and_say_nothing(tmp_path: Path, stopped_by: int) -> None:
    script = tmp_path / "slow_map.py"
    script.write_text(SLOW_MAP)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "under way\n"
    if stopped_by == signal.SIGKILL:
        process.kill()  # the parent alone
    else:
        os.killpg(process.pid, stopped_by)  # as Ctrl-C does
    _, said = process.communicate(timeout=30)  # ends when the last process that holds the pipe has ended
    assert process.returncode == -stopped_by
    assert said.count("Traceback") == (stopped_by == signal.SIGINT)


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(ordered_map(int, ["1", "x", "3"], 2))


def test_no_record_for_any_item_is_a_user_error_that_leaves_nothing(layout: Layout) -> None:
    rejected = Rejected()
    rejected.add("meta.json:2", "not UTF-8")
    with pytest.raises(UserError, match=r"^meta.json has no record of an item.*1 of 2 records left out: not UTF-8"):
        build_text(layout, [item("1")], tokens=["2"], rejected=rejected, origin="meta.json")
    assert not list(layout.root.rglob("*.*"))


def test_a_full_disk_leaves_the_earlier_files_and_nothing_else(layout: Layout) -> None:
    build_text(layout, [item("1", "Old")], rejected=Rejected())
    with largest_file(500), pytest.raises(OSError, match="File too large"):
        build_text(layout, [item("1", "New" * 300)], rejected=Rejected())
    assert read(layout.sentences) == {"1": ["Old"]}
    assert {path.name for path in layout.root.rglob("*") if path.is_file()} == NAMES


def test_memory_grows_with_the_number_of_items_and_not_with_their_text(layout: Layout) -> None:
    sentences = " ".join(f"This is sentence {i}." for i in range(10))

    def items() -> Iterator[Item]:
        for number in range(1000):
            yield Item(f"{number:010}", description=(sentences, f"{'x' * 20_000}{number}"))

    tracemalloc.start()
    try:
        build_text(layout, items(), rejected=Rejected())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * 2**20  # a chunk of 256 items of 20 kB is 5 MiB; all of them are 19


def test_categories_and_brand_are_the_attributes_of_every_item_in_the_order_of_the_sentences(layout: Layout) -> None:
    items = [
        Item("b", category=("Gift  Cards", '<b>"Toys"</b>', "Gift Cards", ""), brand="Acme &amp;\nCo."),
        Item("other", category=("Books",), brand="X"),
        Item("a", brand="Acme"),
        Item("a", brand="Second"),
    ]
    figures = build_text(layout, items, tokens=["gone", "a", "b"], rejected=Rejected())
    assert layout.items.read_text(encoding="utf-8") == (
        "item_id:token\tclass:token_seq\tbrand:token\nb\tGift_Cards _Toys_\tAcme_&_Co.\na\t\tAcme\ngone\t\t\n"
    )
    assert figures["attributes"] == {"items": 3, "with_class": 1, "with_brand": 2, "classes": 2, "brands": 2}


def test_items_with_finds_what_build_text_finds(layout: Layout) -> None:
    items = [
        item("text"),
        item("both", n_pictures=1),
        Item("junk", title="<img src=x>", features=("***", "Product Description")),
        item("late", title=""),
        item("late", n_pictures=1),  # a repeat: the first record counts
        Item("picture", pictures=(("https://x.org/1.jpg",),)),
        Item("ready", sentences=("x",)),
    ]
    found = items_with(iter(items))
    assert found == {"text": {"text", "both", "ready"}, "image": {"both", "picture"}}
    build_text(layout, items, rejected=Rejected())
    assert {name for name, sentences in read(layout.sentences).items() if sentences} == found["text"]
    assert {name for name, pictures in read(layout.picture_sources).items() if pictures} == found["image"]
