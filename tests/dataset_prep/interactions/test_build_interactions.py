"""Events -> .inter, against a plain reference, and through faults."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
from small_disk import largest_file

from dataset_prep.interactions.build import build_interactions
from dataset_prep.interactions.rules import Rules, candidate_rules
from dataset_prep.interactions.table_one import Sizes
from dataset_prep.layout import Layout
from dataset_prep.readers.amazon_reviews import amazon_events
from dataset_prep.readers.events import Event
from dataset_prep.readers.inter import interaction_items
from dataset_prep.readers.rejected import Rejected
from dataset_prep.readers.tables import table_events
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.plain_reader import read_plain

N_ITEMS = 200
HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"


def random_events(seed: int, n: int = 3000) -> list[Event]:
    """Busy and idle users, popular and rare items, ties in time, repeats and exact duplicates."""
    rng = np.random.default_rng(seed)
    users = (120 * rng.random(n) ** 2).astype(int)
    items = (N_ITEMS * rng.random(n) ** 3).astype(int)
    times = rng.integers(-3, 12, n)
    return [(f"u{u}", f"i{i}", float(t)) for u, i, t in zip(users, items, times, strict=True)]


def sizes_of(path: Path) -> Sizes:
    """Counted in the plainest way."""
    users, items, _ = zip(*(line.split("\t") for line in path.read_text().splitlines()[1:]), strict=True)
    return Sizes(len(set(users)), len(set(items)), len(users))


def reference(events: Sequence[Event], rules: Rules, items: Collection[str] | None = None) -> str:
    """What the file must hold, in the plainest way."""
    kept = sorted(events, key=lambda event: event[2])  # stable: equal times stay in order
    if items is not None:
        kept = [event for event in kept if event[1] in items]
    if rules.repeats == "distinct":
        kept = list(dict.fromkeys(kept))
    elif rules.repeats != "all":
        pairs = {}
        for event in kept if rules.repeats == "last" else reversed(kept):
            pairs[event[:2]] = id(event)
        kept = [event for event in kept if pairs[event[:2]] == id(event)]
    while True:
        before = len(kept)
        for field, least in ((0, rules.min_user), (1, rules.min_item)):
            frequency = Counter(event[field] for event in kept)
            kept = [event for event in kept if frequency[event[field]] >= least]
        if len(kept) == before or not rules.to_fixed_point:
            break
    stay = {id(event) for event in kept}
    users = dict.fromkeys(event[0] for event in events if id(event) in stay)
    return HEADER + "".join(f"{u}\t{e[1]}\t{e[2]:g}\n" for u in users for e in kept if e[0] == u)


@pytest.mark.parametrize("seed", [100, 999, 2**18])
@pytest.mark.parametrize(
    "rules",
    [
        *candidate_rules(["text"]),
        Rules(repeats="last", min_user=3, min_item=4),
        Rules(min_user=6, min_item=9, to_fixed_point=False),
        Rules(min_user=0),
    ],
    ids=Rules.describe,
)
def test_the_file_is_what_a_plain_reference_gives(tmp_path: Path, rules: Rules, seed: int) -> None:
    layout = Layout.of(tmp_path / "d")
    events = random_events(seed)
    text = {f"i{i}" for i in range(0, N_ITEMS, 2)}
    figures = build_interactions(layout, events, rules, rejected=Rejected(), item_sets={"text": text}, threads=2)
    expected = reference(events, rules, text if rules.item_set else None)
    assert expected.count("\n") > 10
    assert layout.interactions.read_text() == expected
    assert os.listdir(layout.prep) == []  # the spooled events are gone
    sizes = sizes_of(layout.interactions)
    assert {key: figures[key] for key in sizes.as_dict()} == sizes.as_dict()
    assert list(figures["left"].values())[-1] == sizes.interactions


def test_figures_count_before_and_after_and_fit_into_json(tmp_path: Path) -> None:
    rejected = Rejected()
    rejected.add("f:1", "no time")
    events = [*[("u", f"i{n}", float(n)) for n in range(5)], ("u", "i0", 0.0), ("v", "i0", 1.0)]
    figures = build_interactions(Layout.of(tmp_path / "d"), events, Rules(), rejected=rejected)
    assert json.loads(json.dumps(figures, allow_nan=False)) == {
        "users": 1,
        "items": 5,
        "interactions": 5,
        "average_length": 5.0,
        "density": 1.0,
        "before": {"users": 2, "items": 5, "interactions": 7, "average_length": 3.5, "density": 0.7},
        "rules": {
            "item_set": None,
            "repeats": "distinct",
            "min_user": 5,
            "min_item": 0,
            "to_fixed_point": True,
        },
        "description": "repeats: distinct; users >= 5",
        "left": {"repeats: distinct": 6, "users >= 5": 5},
        "rejected": {"total": 1, "by_reason": {"no time": 1}, "examples": ["f:1: no time"]},
    }


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "d")
    events = [("Ω user", "a/b", 1588687728.923), ("Ω user", "../c", 1588687729.0), ("Ω user", "#", -0.1)]
    build_interactions(layout, events, Rules(min_user=1), rejected=Rejected())
    assert layout.interactions.read_bytes().splitlines()[-1].endswith(b"\t1588687729")
    user, item, time = read_plain(layout.interactions, "\t", None, ["token", "token", "float"])
    assert list(user) == ["Ω user"] * 3
    assert list(item) == ["#", "a/b", "../c"]
    assert list(time) == [-0.1, 1588687728.923, 1588687729.0]


@pytest.mark.parametrize("target", candidate_rules(["text", "image"]), ids=Rules.describe)
def test_nearest_finds_the_rules_that_a_table_was_made_with(tmp_path: Path, target: Rules) -> None:
    events = random_events(seed=5)
    sets = {"text": {f"i{i}" for i in range(0, N_ITEMS, 2)}, "image": {f"i{i}" for i in range(0, N_ITEMS, 3)}}
    alone = Layout.of(tmp_path / "alone")
    build_interactions(alone, events, target, rejected=Rejected(), item_sets=sets)
    table = sizes_of(alone.interactions)
    layout = Layout.of(tmp_path / "d")
    figures = build_interactions(layout, events, "nearest", rejected=Rejected(), reference=table, item_sets=sets)
    assert layout.interactions.read_bytes() == alone.interactions.read_bytes()
    assert figures["description"] == target.describe()
    assert figures["distance"] == 0
    assert figures["table_one"] == table.as_dict()
    assert [candidate["rules"] for candidate in figures["candidates"]] == [
        rules.describe() for rules in candidate_rules(sets)
    ]
    nearest = [candidate for candidate in figures["candidates"] if candidate["distance"] == 0]
    assert [candidate["rules"] for candidate in nearest] == [target.describe()]


def test_the_real_movielens_goes_through_whole(tmp_path: Path) -> None:
    package = importlib.util.find_spec("recbole")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "dataset_example" / "ml-100k" / "ml-100k.inter"
    if not path.is_file():
        pytest.skip("RecBole was installed without its example data")
    layout, rejected = Layout.of(tmp_path / "d"), Rejected()
    figures = build_interactions(layout, table_events(path, rejected), "nearest", rejected=rejected)
    assert (figures["users"], figures["items"], figures["interactions"]) == (943, 1682, 100_000)
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    assert (
        interaction_items(layout.interactions)[0]
        == min((row for row in rows if row[0] == rows[0][0]), key=lambda row: float(row[3]))[1]
    )


def test_nearest_without_a_table_is_the_papers_rule(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "d")
    events = random_events(seed=1)
    figures = build_interactions(layout, events, "nearest", rejected=Rejected())
    assert layout.interactions.read_text() == reference(events, Rules())
    assert "candidates" not in figures


def test_candidates_that_leave_nothing_are_listed_and_not_taken(tmp_path: Path) -> None:
    events = [("u", f"i{n}", float(n)) for n in range(6)]  # no item has 5 events
    figures = build_interactions(
        Layout.of(tmp_path / "d"), events, "nearest", rejected=Rejected(), reference=Sizes(1, 6, 6)
    )
    assert [candidate["distance"] for candidate in figures["candidates"]] == [0, None] * 3
    json.dumps(figures, allow_nan=False)


def test_when_nothing_is_left_the_message_says_which_rule_took_what(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "d")
    events = [("u", f"i{n}", float(n)) for n in range(6)] + [("v", "i0", 0.0)] * 4
    rules = Rules(item_set="text", min_item=2)
    with pytest.raises(UserError) as error:
        build_interactions(layout, events, rules, rejected=Rejected(), item_sets={"text": {f"i{n}" for n in range(5)}})
    assert str(error.value) == (
        "the input: no interaction is left of 10: 9 after 'items with text', 6 after 'repeats: distinct', "
        "5 after 'users >= 5', "
        "0 after 'users >= 5 and items >= 2, to a fixed point'; lower --min-user and --min-item, or give more data"
    )
    assert not layout.interactions.exists()
    assert os.listdir(layout.prep) == []


def test_an_input_without_events_says_what_was_wrong_with_its_records(tmp_path: Path) -> None:
    path = tmp_path / "reviews.json"
    path.write_text('{"asin": "B"}\n')
    rejected = Rejected()
    with pytest.raises(UserError, match=r'no interaction to use: 1 of 1 records.*no "reviewerID".*reviews\.json:1'):
        build_interactions(Layout.of(tmp_path / "d"), amazon_events(path, 2018, rejected), Rules(), rejected=rejected)
    with pytest.raises(UserError, match=r"^empty\.tsv has no interaction to use: it has no records"):
        build_interactions(Layout.of(tmp_path / "d"), [], Rules(), rejected=Rejected(), origin="empty.tsv")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"repeats": "some"}, "repeats is 'some': it must be one of all, distinct, first, last"),
        ({"min_user": -1}, "min_user is -1"),
        ({"min_item": -1}, "min_item is -1"),
    ],
)
def test_impossible_rules_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rules(**fields)  # type: ignore[arg-type]


def test_an_unknown_set_of_items_is_refused(tmp_path: Path) -> None:
    rules = Rules(item_set="sound")
    with pytest.raises(UserError, match="is 'sound', which is not a known set of items: take one of these: text"):
        build_interactions(
            Layout.of(tmp_path / "d"), random_events(1), rules, rejected=Rejected(), item_sets={"text": {"i1"}}
        )


def test_a_gzip_file_that_is_cut_off_leaves_an_earlier_result_as_it_was(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "d")
    build_interactions(layout, random_events(1), Rules(), rejected=Rejected())
    earlier = layout.interactions.read_bytes()
    lines = "".join(f"i{i},u{u},5.0,{t:g}\n" for u, i, t in random_events(2, n=50_000))
    cut = tmp_path / "ratings.csv.gz"
    cut.write_bytes(gzip.compress(lines.encode())[:-1000])
    rejected = Rejected()
    with pytest.raises(UserError, match=r"ratings\.csv\.gz is damaged or cut off after line"):
        build_interactions(layout, amazon_events(cut, 2018, rejected), Rules(), rejected=rejected)
    assert layout.interactions.read_bytes() == earlier
    assert os.listdir(layout.prep) == []


def test_a_full_disk_leaves_nothing_half_written_and_an_earlier_result_as_it_was(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "d")
    build_interactions(layout, random_events(1), Rules(), rejected=Rejected())
    earlier = layout.interactions.read_bytes()
    with largest_file(1000), pytest.raises(OSError, match="File too large"):
        build_interactions(layout, random_events(2), Rules(min_user=1), rejected=Rejected())
    assert layout.interactions.read_bytes() == earlier
    assert os.listdir(layout.prep) == []
    assert sorted(os.listdir(layout.root)) == ["d.inter", "prep"]


def test_more_events_than_fit_into_memory_go_through_the_disk_and_give_the_same_file(tmp_path: Path) -> None:
    long = [(f"{u:>500}", f"{i:>500}", t) for u, i, t in random_events(3, n=40_000)]  # 40 MB of names
    for name, memory in (("small", "50MB"), ("large", "50%")):
        build_interactions(Layout.of(tmp_path / name), long, Rules(), rejected=Rejected(), memory=memory, threads=2)
        assert os.listdir(tmp_path / name / "prep") == []
    assert (tmp_path / "small" / "small.inter").read_bytes() == (tmp_path / "large" / "large.inter").read_bytes()
    layout = Layout.of(tmp_path / "tiny")
    with (
        largest_file(10_000),
        pytest.raises(UserError, match=r"need more memory or disk space .* with --mem"),
    ):
        build_interactions(layout, long, Rules(), rejected=Rejected(), memory="50MB")
    assert os.listdir(layout.root) == ["prep"]
    assert os.listdir(layout.prep) == []


@pytest.mark.parametrize("memory", ["", "4", "0GB", "-1GB", "1e3MB", "101%", "all"])
def test_an_amount_of_memory_that_cannot_be_read_is_refused(tmp_path: Path, memory: str) -> None:
    with pytest.raises(UserError, match="give a size such as 4GB"):
        build_interactions(Layout.of(tmp_path / "d"), random_events(1), Rules(), rejected=Rejected(), memory=memory)


KILLED = """
import os, signal, sys
from threading import Timer
from dataset_prep.interactions.build import build_interactions
from dataset_prep.interactions.rules import Rules
from dataset_prep.layout import Layout
from dataset_prep.readers.rejected import Rejected

def kill():
    os.kill(os.getpid(), getattr(signal, sys.argv[3]))

def events():
    lines = list(open(sys.argv[2]))
    for n, line in enumerate(lines):
        user, item, time = line.split()
        if n == len(lines) // 2 and sys.argv[4] == "reading":
            kill()
        yield user, item, float(time)
    if sys.argv[4] == "filtering":
        Timer(0.002, kill).start()

build_interactions(Layout.of(sys.argv[1]), events(), Rules(min_item=5), rejected=Rejected())
"""


@pytest.mark.parametrize("stopped_by", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("moment", ["reading", "filtering"])
def test_after_a_stop_the_next_run_writes_the_same_bytes_and_clears_up(
    tmp_path: Path, moment: str, stopped_by: str
) -> None:
    events = random_events(3, n=20_000)
    table = tmp_path / "events.txt"
    table.write_text("".join(f"{user} {item} {time:g}\n" for user, item, time in events))
    layout = Layout.of(tmp_path / "d")
    command = [sys.executable, "-c", KILLED, str(layout.root), str(table), stopped_by]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    stopped = subprocess.run([*command, moment], env=environment, capture_output=True).returncode
    assert stopped == -getattr(signal, stopped_by)
    assert not layout.interactions.exists()
    if stopped_by == "SIGINT":
        assert os.listdir(layout.prep) == []
    subprocess.run([*command, "never"], env=environment, check=True)
    assert layout.interactions.read_text() == reference(events, Rules(min_item=5))
    assert os.listdir(layout.prep) == []
    assert sorted(os.listdir(layout.root)) == ["d.inter", "prep"]
