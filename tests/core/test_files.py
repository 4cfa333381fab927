"""Files that are either whole or absent, and what killed writers leave."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_msm4sr.core import files
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_file, atomic_folder

_WRITER = """
import sys, time
from recbole_msm4sr.core.files import atomic_file, atomic_folder
with {kind}("target") as temporary:
    ({content}).write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def _start_writing(kind: str) -> subprocess.Popen[str]:
    content = "temporary" if kind == "atomic_file" else "temporary / 'part'"
    code = _WRITER.format(kind=kind, content=content)
    writer = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    return writer


def _write(kind: str) -> None:
    if kind == "atomic_file":
        with atomic_file("target") as temporary:
            temporary.write_text("whole")
    else:
        with atomic_folder("target") as temporary:
            (temporary / "part").write_text("whole")


@pytest.mark.parametrize("kind", ["atomic_file", "atomic_folder"])
def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(kind: str) -> None:
    killed, living = _start_writing(kind), _start_writing(kind)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(os.listdir()) == 2
    others = {".target.tmp", ".target.notes.tmp", f".target.00000000-{killed.pid}-abcdefgh.tmp"}  # of another machine
    for name in others:
        Path(name).touch()
    _write(kind)
    [left] = set(os.listdir()) - {"target"} - others
    assert f"-{living.pid}-" in left
    living.kill()
    living.communicate()


def test_a_folder_that_a_killed_writer_had_put_aside_comes_back() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    aside = Path(f".target.{files._MACHINE}-{gone.pid}-abcdefgh.old")
    aside.mkdir()
    (aside / "part").write_text("old")
    with pytest.raises(UserError, match="exists already"), atomic_folder("target"):
        pass
    assert Path("target/part").read_text() == "old"
    assert os.listdir() == ["target"]
    aside.mkdir()  # killed a little later: the new one is in place
    with atomic_folder("target", overwrite=True) as temporary:
        (temporary / "part").write_text("new")
    assert os.listdir() == ["target"]


def test_results_can_be_read_by_others_as_far_as_the_umask_allows() -> None:
    with atomic_file("file") as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    with atomic_folder("folder"):
        pass
    assert stat.S_IMODE(Path("file").stat().st_mode) == 0o666 & ~files._UMASK
    assert stat.S_IMODE(Path("folder").stat().st_mode) == 0o777 & ~files._UMASK


def test_a_folder_comes_back_when_its_successor_cannot_take_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with atomic_folder("target") as temporary:
        (temporary / "part").write_text("old")
    with pytest.raises(UserError, match="exists already"), atomic_folder("target"):
        pass
    replace = os.replace

    def fails_for_the_new(source: Path, target: Path) -> None:
        if str(source).endswith(".tmp"):
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_for_the_new)
    with pytest.raises(OSError, match="disk full"), atomic_folder("target", overwrite=True) as temporary:
        (temporary / "part").write_text("new")
    assert Path("target/part").read_text() == "old"
    assert os.listdir() == ["target"]
