"""``run_step``: finished steps are skipped, changed ones run again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dataset_prep.layout import Layout
from dataset_prep.steps.step import Step, read_summary, run_step
from recbole_msm4sr.core.errors import UserError


class Copy:
    """A step that copies ``source`` to ``prep/copy`` and counts how often it ran."""

    def __init__(self, tmp_path: Path) -> None:
        self.layout = Layout.of(tmp_path / "dataset" / "tiny")
        self.source = tmp_path / "source"
        self.source.write_text("some text")
        self.target = self.layout.prep / "copy"
        self.runs = 0

    def work(self) -> dict[str, Any]:
        self.runs += 1
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.target.write_text(self.source.read_text())
        return {"characters": len(self.target.read_text())}

    def run(self, **settings: Any) -> dict[str, Any]:
        run_step(self.layout, Step("copy", settings, inputs=[self.source], outputs=[self.target], work=self.work))
        summary = read_summary(self.layout, "copy")
        assert summary is not None
        return summary


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_a_finished_step_is_skipped_and_gives_its_summary(copy: Copy) -> None:
    first = copy.run(n=(1, 2))
    assert first["figures"] == {"characters": 9}
    assert first["settings"] == {"n": [1, 2]}
    assert copy.run(n=(1, 2)) == first == read_summary(copy.layout, "copy")
    assert copy.runs == 1


def test_a_digest_of_a_download_or_of_an_earlier_step_is_taken_over(copy: Copy) -> None:
    status = copy.source.stat()
    download = {"file": str(copy.source), "bytes": 9, "mtime_ns": status.st_mtime_ns, "sha256": "as it came"}
    run_step(copy.layout, Step("get", {}, inputs=[], outputs=[], work=lambda: {"reviews": download}))
    assert copy.run(n=1)["inputs"][str(copy.source)]["sha256"] == "as it came"
    os.utime(copy.source, ns=(1, 1))
    assert copy.run(n=1)["inputs"][str(copy.source)]["sha256"] != "as it came"


def test_other_settings_other_input_or_a_changed_output_run_it_again(copy: Copy) -> None:
    copy.run(n=1)
    copy.run(n=2)
    assert copy.runs == 2
    copy.source.write_text("some more")
    os.utime(copy.source, ns=(1, 1))
    copy.run(n=2)
    assert copy.runs == 3
    copy.target.write_text("meddled with")
    copy.run(n=2)
    assert copy.runs == 4
    copy.target.unlink()
    copy.run(n=2)
    assert copy.runs == 5


def test_a_touched_input_of_the_same_content_does_not(copy: Copy) -> None:
    copy.run()
    os.utime(copy.source, ns=(1, 1))
    copy.run()
    assert copy.runs == 1


def test_a_step_that_fails_leaves_no_summary(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copy, "work", fail)
    with pytest.raises(OSError, match="No space"):
        copy.run()
    assert read_summary(copy.layout, "copy") is None


def test_a_folder_as_input_is_known_by_its_files(copy: Copy, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"1")
    (folder / "nowhere.jpg").symlink_to(folder / "gone")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.jpg")).write_bytes(b"3")

    def run() -> None:
        run_step(copy.layout, Step("copy", {}, inputs=[folder], outputs=[], work=copy.work))

    run()
    run()
    assert copy.runs == 1
    (folder / "b.jpg").write_bytes(b"2")
    run()
    assert copy.runs == 2


def test_a_missing_input_is_a_clear_error(copy: Copy) -> None:
    copy.source.unlink()
    with pytest.raises(UserError, match="source is missing: run the step that makes it"):
        copy.run()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "[" * 100_000, '{"key": 1}', '{"inputs": 3}', b"\xff", None],
    ids=["empty", "cut", "a list", "nested", "key", "shape", "not UTF-8", "inputs of another shape"],
)
def test_a_damaged_summary_counts_as_none(copy: Copy, content: str | bytes | None) -> None:
    summary = copy.run()
    damaged = json.dumps({**summary, "inputs": {name: 1 for name in summary["inputs"]}, "key": "x"})
    path = copy.layout.summary("copy")
    path.write_bytes(content if isinstance(content, bytes) else (content if content is not None else damaged).encode())
    copy.run()
    assert copy.runs == 2
