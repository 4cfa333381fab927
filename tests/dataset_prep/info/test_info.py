"""``dataset_prep info``: the figures of any prepared folder, as JSON and as text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dataset_prep.info.describe import describe
from dataset_prep.info.text import describe_as_text
from dataset_prep.layout import Layout
from dataset_prep.readable import difference, displayable, percent, seconds_as_text, size_as_text
from dataset_prep.readers.jsonl import write_records
from dataset_prep.readers.rejected import Rejected
from dataset_prep.steps.step import Step, run_step
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.feature_store import FeatureStore


def write_inter(layout: Layout, rows: list[tuple[str, str]]) -> None:
    layout.root.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{item}\t4.0\t{user}\n" for user, item in rows)  # columns in an order of their own
    layout.interactions.write_text("item_id:token\trating:float\tuser_id:token\n" + lines, encoding="utf-8")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """2 users, items A, B and C, 5 interactions; text for A and B and for an item of no interactions."""
    layout = Layout.of(tmp_path / "Prime_Pantry")
    write_inter(layout, [("u", "A"), ("u", "B"), ("v", "A"), ("v", "B"), ("v", "C")])
    sentences = {"A": ["One.", "Two.", "Three."], "B": ["One."], "C": [], "other": ["One."]}
    write_records(layout.sentences, ({"item_id": item, "sentences": text} for item, text in sentences.items()))
    return layout


def test_interactions_stand_beside_table_one(layout: Layout) -> None:
    described = describe(layout)
    here = {"users": 2, "items": 3, "interactions": 5, "average_length": 2.5}
    assert described["interactions"].items() >= here.items()
    paper = {"name": "Pantry", "users": 13_614, "items": 7_670, "interactions": 131_311, "average_length": 9.65}
    assert described["table_one"].items() >= paper.items()


def test_a_data_set_that_the_paper_does_not_have_stands_alone(layout: Layout) -> None:
    layout.root.rename(layout.root.parent / "mine")
    mine = Layout.of(layout.root.parent / "mine")
    (mine.root / layout.interactions.name).rename(mine.interactions)
    described = describe(mine)
    assert described["table_one"] is None
    assert "table I" not in describe_as_text(described)


def test_coverage_is_over_the_items_of_the_interactions(layout: Layout) -> None:
    assert describe(layout)["coverage"] == {
        "sentences": {"items": 2, "share": 0.6667, "rows": 4, "rows_per_covered_item": 2.0, "items_outside": 1}
    }


def test_features_imported_elsewhere_are_described_without_any_step(layout: Layout) -> None:
    layout.sentences.unlink()
    rows = [np.ones((2, 3)), np.ones((0, 3)), np.ones((1, 3))]
    FeatureStore.write(
        layout.features("image"), ["A", "B", "x"], rows, encoder="clip", revision="r2", options={"kind": "pixels"}
    )
    described = describe(layout)
    assert described["coverage"] == {
        "image features": {"items": 1, "share": 0.3333, "rows": 2, "rows_per_covered_item": 2.0, "items_outside": 1}
    }
    assert described["encoders"] == {
        "image": {"encoder": "clip", "revision": "r2", "dim": 3, "options": {"kind": "pixels"}}
    }
    assert described["steps"] == described["failures"] == described["problems"] == []
    assert set(described["absent"]) == {"sentences", "pictures", "words", "text features"}


def test_without_interactions_the_items_are_those_of_all_files(layout: Layout) -> None:
    layout.interactions.unlink()
    write_records(layout.keywords, [{"item_id": "D", "keywords": [["word"]]}, {"item_id": "A", "keywords": [[]]}])
    described = describe(layout)
    assert described["interactions"] is None
    assert described["items"] == 5
    assert described["coverage"]["sentences"]["items"] == 3
    assert described["coverage"]["words"] == {
        "items": 1, "share": 0.2, "rows": 1, "rows_per_covered_item": 1.0, "items_outside": 0
    }  # fmt: skip


def test_failures_are_found_wherever_a_summary_has_them(layout: Layout) -> None:
    rejected, dead = Rejected(), Rejected()
    rejected.add("meta.json:7", "not valid JSON", "column 3")
    dead.add("https://shop.example/1.jpg", "404 Not Found")
    dead.add("https://shop.example/2.jpg", "404 Not Found")
    figures = {"interactions": {"rejected": Rejected().as_dict()}, "text": {"items": 3, "rejected": rejected.as_dict()}}
    for name, made in (("text", figures), ("pictures", {"failed": dead.as_dict()})):
        run_step(layout, Step(name, {}, inputs=[], outputs=[], work=lambda made=made: made))
    described = describe(layout)
    assert [step["step"] for step in described["steps"]] == ["text", "pictures"], "in the order they were finished"
    assert sorted(described["failures"], key=lambda failure: failure["step"]) == [
        {
            "step": "pictures",
            "what": "failed",
            "total": 2,
            "by_reason": {"404 Not Found": 2},
            "examples": dead.examples,
        },
        {
            "step": "text",
            "what": "text: rejected",
            "total": 1,
            "by_reason": {"not valid JSON": 1},
            "examples": ["meta.json:7: not valid JSON (column 3)"],
        },
    ]


def test_damaged_files_are_named_and_the_rest_is_described(layout: Layout) -> None:
    layout.keywords.write_text('{"item_id": "A", "keywords": "word"}\n')
    layout.features("text").mkdir(parents=True)
    layout.prep.mkdir()
    layout.summary("text").write_text("{")
    described = describe(layout)
    assert described["coverage"]["sentences"]["items"] == 2
    named = "\n".join(described["problems"])
    assert len(described["problems"]) == 3
    for expected in ("image_keywords.jsonl:1", "is not a feature store", "text.json is damaged, or of another version"):
        assert expected in named
    text = describe_as_text(described)
    assert all(problem in text for problem in described["problems"])


def test_a_file_of_interactions_without_its_columns_is_a_problem_of_its_own(layout: Layout) -> None:
    layout.interactions.write_text("user\titem\nu\tA\n")
    described = describe(layout)
    assert described["interactions"] is None
    assert described["items"] == 4
    assert "has no column 'user_id'" in described["problems"][0]


def test_disk_is_what_the_files_take(layout: Layout) -> None:
    (layout.picture_files / "ab").mkdir(parents=True)
    (layout.picture_files / "ab" / "abcd.jpg").write_bytes(b"x" * 5000)
    disk = describe(layout)["disk"]
    assert disk == {
        "prep": 5000,
        "text.jsonl": layout.sentences.stat().st_size,
        "Prime_Pantry.inter": layout.interactions.stat().st_size,
    }
    assert list(disk.values()) == sorted(disk.values(), reverse=True)


def test_a_folder_that_is_not_a_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        describe(Layout.of(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no item"):
        describe(Layout.of(tmp_path / "empty"))


def test_text_and_json_say_the_same(layout: Layout) -> None:
    FeatureStore.write(layout.features("text"), ["A"], [np.ones((2, 3))], encoder="tiny-bert", revision="r1")
    run_step(layout, Step("text", {}, inputs=[], outputs=[], work=lambda: {"by_reason": {"no title": 1234}}))
    described = describe(layout)
    assert json.loads(json.dumps(described)) == described
    lines = [line.split() for line in describe_as_text(described).splitlines()]
    assert ["average", "length", "2.50", "9.65", "-74.1", "%"] in lines
    assert ["sentences", "2", "66.7", "%", "4", "2.00", "1"] in lines
    assert ["text", "tiny-bert", "r1", "3", "-"] in lines
    assert ["1,234", "no", "title"] in lines


def test_text_from_files_cannot_command_the_terminal(layout: Layout) -> None:
    figures = {"by_reason": {"\x1b[2J\x1b]0;title\x07": 1}, "examples": ["https://x/\x1b[31m\n\u202egpj"]}
    run_step(layout, Step("text", {}, inputs=[], outputs=[], work=lambda: figures))
    FeatureStore.write(layout.features("text"), ["A"], [np.ones((2, 3))], encoder="\x1b[31mred", revision="\x9b31m")
    text = describe_as_text(describe(layout))
    assert not any(mark in text for mark in "\x1b\x07\x9b\u202e")


def test_figures_read_well() -> None:
    assert [size_as_text(size) for size in (0, 1023, 1024, 1536 * 2**20, 3 * 2**40)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 GiB", "3.0 TiB"
    ]  # fmt: skip
    assert [seconds_as_text(seconds) for seconds in (0.04, 200, 18_720)] == ["0.0 s", "3 min 20 s", "5 h 12 min"]
    assert [percent(share) for share in (0, 0.0001, 0.5, 0.9999, 1)] == [
        "0.0 %", "< 0.1 %", "50.0 %", "> 99.9 %", "100.0 %"
    ]  # fmt: skip
    assert [difference(here, 100) for here in (100, 150, 90)] == ["the same", "+50.0 %", "-10.0 %"]
    assert displayable("a" * 12, 10) == "aaaaaaaaaa… (12 characters)"


def test_a_reader_that_closes_the_output_is_not_an_error(layout: Layout) -> None:
    """As in ``... | head -1``."""
    command = [sys.executable, "-m", "dataset_prep", "info", str(layout.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0
