"""What the command line takes and refuses: always before any work, in one line, with exit code 2."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_prep.__main__ import main
from dataset_prep.layout import Layout
from dataset_prep.options import EncodeOptions, GalleryOptions, Options, Settings
from dataset_prep.sources import AmazonSource, CustomSource
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import locked

COMMANDS = ("amazon", "custom", "info", "gallery", "encode", "demo")
REQUIRED = {"category": "Books", "inter": "a.csv", "path": "x", "sentence_encoder": "a/b", "out": "x"}


def _table(path: Path) -> str:
    path.write_text("user,item,time\n" + "".join(f"u,i{time},{time}\n" for time in range(5)))
    return f"--inter={path}"


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)], ids=["", *COMMANDS])
def test_help_names_every_option_and_its_default(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, field in Options.model_fields.items() if command in (["amazon"], ["custom"]) else ():
        assert f"--{name.replace('_', '-')}" in text
        if field.default not in (None, False) and isinstance(field.default, int | str):
            assert f"(default: {field.default})" in text


def _refusal(kind: type[Settings], values: dict[str, Any]) -> str | None:
    try:
        kind(**values)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", [Options, AmazonSource, CustomSource, GalleryOptions, EncodeOptions])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_value_of_any_option_is_taken_or_refused_by_name(kind: type[Settings], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(kind.model_fields)))
    value: Any = data.draw(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text())))
    required = {key: value for key, value in REQUIRED.items() if key in kind.model_fields}
    refused = _refusal(kind, {**required, name: value})
    assert refused is None or refused.startswith(f"--{name.replace('_', '-')}")


def test_what_cannot_work_is_said_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "Tiny"
    (tmp_path / "a.csv").write_text("user,item,timestamp\n")
    assert main(["amazon", "--category=Prime_Pantri", f"--out={out}"]) == 2
    assert "Prime_Pantry" in capsys.readouterr().err
    assert main(["custom", f"--inter={tmp_path / 'a.csv'}", "--modalities=text", f"--out={out}"]) == 2
    assert "there is no text to encode" in capsys.readouterr().err


@pytest.mark.parametrize("changed", ["--max-items=0", "--missing-share=nan", "--order=best", "--seed=-1"])
def test_what_the_gallery_cannot_show_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: str
) -> None:
    assert main(["gallery", str(tmp_path), changed]) == 2
    assert capsys.readouterr().err.startswith(f"dataset_prep: error: {changed.partition('=')[0]}")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("--top-n=4", "--top-n is '4': Input should be greater than or equal to 5"),
        ("--steps=cook", "--steps: 'cook' is none of get"),
        ("--steps=", "--steps: '' is none of get"),
        ("--modalities=text,", "--modalities: '' is none of text"),
        ("--max-sentences=x", "--max-sentences is 'x': Input should be a valid integer"),
        ("--max-sentences=0", "--max-sentences is '0'"),
        ("--max-pictures=0", "--max-pictures is '0'"),
        ("--workers=0", "--workers is '0'"),
        ("--batch-size=" + "9" * 5000, "--batch-size is '99"),
        ("--min-user=-1", "--min-user is '-1'"),
        ("--repeats=some", "--repeats: 'some' is none of all"),
        ("--columns=user", "--columns is 'user': columns 'user'"),
        ("--frobnicate=1", "unrecognized arguments: --frobnicate=1"),
        ("--words=a\x1bb", "--words is 'a\\x1bb': it has control characters"),
        ("--out=", "'' is not a data set's folder"),
        ("--out=..", "'..' is not a data set's folder"),
        ("--out=dataset/..", "is not a data set's folder"),
        ("--out=/", "'/' is not a data set's folder"),
        ("--out=da\nta", "--out is 'da\\nta': it has control characters"),
        ("--out=da\udcff", "--out is 'da\\udcff': it has control characters, or is not UTF-8"),
        ("--words=gone.txt", "gone.txt is not a file"),
        ("--clip=./gone", "there is no model folder './gone'"),
        ("--sentence-encoder=./gone", "there is no model folder './gone'"),
        ("--device=gpu", "there is no device 'gpu'"),
        ("--device=meta", "the device meta cannot be used here"),
        ("--device=xpu", "the device xpu cannot be used here"),
        ("--device=cuda:99", "the device cuda:99 is not available"),
        ("--inter=gone.csv", "gone.csv is not a file"),
        ("--text=gone.jsonl", "gone.jsonl is not a file"),
        ("--keywords=gone.jsonl", "gone.jsonl is not a file"),
        ("--images=gone", "gone is not a folder"),
        ("--modalities=image", "there are no pictures"),
    ],
)
def test_what_a_late_step_cannot_use_is_said_before_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: str, message: str
) -> None:
    out = tmp_path / "dataset" / "mine"
    assert main(["custom", _table(tmp_path / "a.csv"), f"--out={out}", changed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dataset_prep: error: ")
    assert message in line
    assert not any(out.rglob("*.*"))


def test_steps_that_this_source_does_not_have_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["custom", _table(tmp_path / "a.csv"), "--steps=get,words", f"--out={tmp_path / 'mine'}"]) == 2
    assert "--steps get,words: there is nothing to do" in capsys.readouterr().err


def test_two_commands_never_write_one_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inter = _table(tmp_path / "a.csv")
    layout = Layout.of(tmp_path / "dataset" / "mine")
    preparation = ["custom", inter, "--steps=interactions", f"--out={layout.root}"]
    (tmp_path / "text.jsonl").write_text('{"item_id": "i1", "sentences": ["A mug."]}\n')
    encoding = ["encode", f"--text={tmp_path / 'text.jsonl'}", "--sentence-encoder=no/such", f"--out={layout.root}"]
    with locked(layout.lock):
        for argv in (preparation, encoding):
            assert main(argv) == 2
            assert capsys.readouterr().err == f"dataset_prep: error: {layout.root} is in use by another process\n"
    assert not layout.interactions.exists()
    assert main(preparation) == 0


_INTERRUPTED_IMPORT = """
import os, signal, sys, time
from dataset_prep.__main__ import main
class Finder:
    def find_spec(self, name, *_):
        if name == "dataset_prep.info.inventory":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(10)
            except KeyboardInterrupt:
                raise ImportError("half imported")
sys.meta_path.insert(0, Finder())
sys.exit(main(["info", "nothing"]))
"""


def test_ctrl_c_in_the_midst_of_imports_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED_IMPORT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "dataset_prep: interrupted\n")


@pytest.mark.parametrize("streams", [">&-", "2>&- >/dev/null", ">&- 2>&-"])
def test_closed_streams_are_no_failure(tmp_path: Path, streams: str) -> None:
    (tmp_path / "text.jsonl").write_text('{"item_id": "i1", "sentences": ["A mug."]}\n')
    command = f"{shlex.quote(sys.executable)} -m dataset_prep info {shlex.quote(str(tmp_path))} {streams}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_killed_commands_left_is_removed_by_the_next(tmp_path: Path) -> None:
    inter = _table(tmp_path / "a.csv")
    layout = Layout.of(tmp_path / "dataset" / "mine")
    left_over = f".mine.item.{platform.node()}-{2**22 + 1}-0123abcd.tmp"  # of a process number that Linux never gives
    for folder in (layout.root, layout.prep, layout.root / "features"):
        folder.mkdir(parents=True)
        (folder / left_over).touch()
    assert main(["custom", inter, "--steps=interactions", f"--out={layout.root}"]) == 0
    assert not list(layout.root.rglob("*.tmp"))
