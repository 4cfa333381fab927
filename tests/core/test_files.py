"""Files that are either whole or absent, what killed writers leave, and locks."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_msm4sr.core import files
from recbole_msm4sr.core.errors import InUseError, UserError
from recbole_msm4sr.core.files import atomic_file, atomic_folder, fingerprint, locked, remove_left_overs

_WRITER = """
import sys
from pathlib import Path
from recbole_msm4sr.core.files import atomic_file, atomic_folder, locked
with {block} as temporary:
    {content}
    print("there", flush=True)
    sys.stdin.read()
"""
_HALF = {
    "atomic_file": ("atomic_file('target')", "temporary.write_text('half')"),
    "atomic_folder": ("atomic_folder('target')", "(temporary / 'part').write_text('half')"),
    "locked": ("locked('lock')", "pass"),
}


def _start(kind: str) -> subprocess.Popen[str]:
    block, content = _HALF[kind]
    code = _WRITER.format(block=block, content=content)
    writer = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "there\n"
    return writer


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def _write(kind: str, content: str = "whole", *, overwrite: bool = False) -> None:
    if kind == "atomic_file":
        with atomic_file("target") as temporary:
            temporary.write_text(content)
    else:
        with atomic_folder("target", overwrite=overwrite) as temporary:
            (temporary / "part").write_text(content)


@pytest.mark.parametrize("kind", ["atomic_file", "atomic_folder"])
def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(kind: str) -> None:
    killed, living = _start(kind), _start(kind)
    _kill(killed)
    assert len(os.listdir()) == 2
    others = {".target.tmp", ".target.notes.tmp", f".target.another-host-{killed.pid}-0123abcd.tmp"}
    for name in others:
        Path(name).touch()
    _write(kind)
    [left] = set(os.listdir()) - {"target"} - others
    assert f"-{living.pid}-" in left
    _kill(living)
    assert [path.name for path in remove_left_overs(Path("."))] == [left]
    assert set(os.listdir()) == {"target"} | others


def test_a_folder_that_a_killed_writer_had_put_aside_comes_back() -> None:
    killed = _start("atomic_folder")
    _kill(killed)
    [left] = os.listdir()
    aside = Path(left).with_suffix(".old")  # as it is named between the two renames
    aside.mkdir()
    (aside / "part").write_text("old")
    with pytest.raises(UserError, match="exists already"):
        _write("atomic_folder")
    assert Path("target/part").read_text() == "old"
    assert os.listdir() == ["target"]
    aside.mkdir()  # killed a little later: the new one is in place
    _write("atomic_folder", overwrite=True)
    assert os.listdir() == ["target"]


def test_results_can_be_read_by_others_as_far_as_the_umask_allows() -> None:
    before = os.umask(0o027)
    try:
        _write("atomic_file")
        assert stat.S_IMODE(Path("target").stat().st_mode) == 0o640
        Path("target").unlink()
        _write("atomic_folder")
        assert stat.S_IMODE(Path("target").stat().st_mode) == 0o750
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", ["atomic_file", "atomic_folder"])
def test_the_content_is_on_the_disk_before_its_name_and_the_name_after(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace, fsync = os.replace, os.fsync

    def flush(handle: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def rename(source: Path, target: Path) -> None:
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    _write(kind)
    before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
    assert any(name.endswith(".tmp") for name in before)
    assert kind == "atomic_file" or "part" in before
    assert after == [Path.cwd().name]


@pytest.mark.parametrize("kind", ["atomic_file", "atomic_folder"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError("8 requested, 0 written")])
def test_a_write_that_fails_leaves_the_old_and_names_it(kind: str, error: OSError) -> None:
    _write(kind, "old")
    with (
        pytest.raises((OSError, UserError), match="target"),
        atomic_file("target") if kind == "atomic_file" else atomic_folder("target", overwrite=True),
    ):
        raise error
    assert os.listdir() == ["target"]
    assert (Path("target") if kind == "atomic_file" else Path("target/part")).read_text() == "old"


def test_a_folder_comes_back_when_its_successor_cannot_take_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    _write("atomic_folder", "old")
    replace = os.replace

    def fails_for_the_new(source: Path, target: Path) -> None:
        if str(source).endswith(".tmp"):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_for_the_new)
    with pytest.raises(OSError, match="No space left"):
        _write("atomic_folder", "new", overwrite=True)
    assert Path("target/part").read_text() == "old"
    assert os.listdir() == ["target"]


def test_a_lock_is_held_by_one_process_and_released_by_a_kill(caplog: pytest.LogCaptureFixture) -> None:
    other = _start("locked")
    with pytest.raises(InUseError, match="in use by another process"), locked("lock", wait=False):
        pass
    _kill(other)
    with locked("lock", wait=False):
        pass


def test_a_hash_is_taken_over_while_size_and_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("file")
    path.write_text("one")
    first = fingerprint(path)
    with monkeypatch.context() as patch:
        patch.setattr(files, "sha256_of_file", lambda path: pytest.fail("it was read again"))
        assert fingerprint(path, first) == first
    path.write_text("two")
    os.utime(path, ns=(first["mtime_ns"] + 1,) * 2)
    assert fingerprint(path, first)["sha256"] != first["sha256"]
    assert fingerprint(path, {"sha256": "x"})["sha256"] != "x"
