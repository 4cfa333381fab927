"""Work cut into shards: finished ones are kept, whoever computes them, and never mixed with others."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from torchrun import ENVIRONMENT, torchrun

from dataset_prep.encode import shards as shards_module
from dataset_prep.encode.shards import Shards, wait_until_visible
from recbole_msm4sr.core.errors import UserError


def make(folder: Path, settings: Mapping[str, object] | None = None, n_items: int = 10, shard_size: int = 4) -> Shards:
    return Shards(folder / "step", settings or {"a": 1}, n_items=n_items, shard_size=shard_size, suffix=".txt")


def write_numbers(numbers: range, path: Path) -> None:
    path.write_text(" ".join(map(str, numbers)))


class Recorder:
    """Writes the numbers of a shard and remembers which ones it was asked for."""

    def __init__(self, before: Callable[[range], None] = lambda numbers: None) -> None:
        self.before, self.asked = before, list[range]()

    def __call__(self, numbers: range, path: Path) -> None:
        self.before(numbers)
        self.asked.append(numbers)
        write_numbers(numbers, path)


def run(shards: Shards, compute: Callable[[range, Path], None] = write_numbers) -> list[str]:
    shards.run(compute, unit="item", description="numbers")
    return [path.read_text() for _, path in shards]


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_every_item_is_in_one_shard_and_they_come_in_order(tmp_path: Path) -> None:
    shards = make(tmp_path)
    assert run(shards) == ["0 1 2 3", "4 5 6 7", "8 9"]
    assert [numbers for numbers, _ in shards] == [range(4), range(4, 8), range(8, 10)]
    assert run(make(tmp_path, n_items=0)) == []
    shards.discard()
    assert not (tmp_path / "step").exists()


def test_finished_shards_are_not_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(make(tmp_path))
    make(tmp_path).path(1).unlink()
    recorder = Recorder()
    with caplog.at_level("INFO"):
        assert run(make(tmp_path), recorder) == ["0 1 2 3", "4 5 6 7", "8 9"]
    assert recorder.asked == [range(4, 8)]
    assert "2 of 3 shards are there already" in caplog.text


@pytest.mark.parametrize(
    "other", [{"settings": {"a": 2}}, {"n_items": 11}, {"shard_size": 5}], ids=["settings", "items", "size"]
)
def test_shards_of_other_settings_are_never_used_but_deleted(
    tmp_path: Path, other: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    before = make(tmp_path)
    run(before)
    recorder, now = Recorder(), make(tmp_path, **other)  # type: ignore[arg-type]
    with caplog.at_level("INFO"):
        run(now, recorder)
    assert recorder.asked == [numbers for numbers, _ in now]
    assert not before.own_folder.exists()
    assert "deleting the finished shards of before" in caplog.text


def test_the_order_of_settings_does_not_matter(tmp_path: Path) -> None:
    run(make(tmp_path, {"a": 1, "b": 2}))
    recorder = Recorder()
    run(make(tmp_path, {"b": 2, "a": 1}), recorder)
    assert recorder.asked == []


def test_a_full_disk_loses_no_finished_shard_and_leaves_none_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    flushes = itertools.count()
    fsync = os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: fsync(file) if next(flushes) < 4 else full())  # two a shard
        with pytest.raises(OSError, match="No space left"):
            run(make(tmp_path))
    assert files(tmp_path) == {"00000000.txt", "00000001.txt"}
    recorder = Recorder()
    assert run(make(tmp_path), recorder) == ["0 1 2 3", "4 5 6 7", "8 9"]
    assert recorder.asked == [range(8, 10)]


KILLED = """
import sys, time
from pathlib import Path
from dataset_prep.encode.shards import Shards

def compute(numbers, path):
    path.write_text("half")
    if numbers.start == 4:
        print("in the second", flush=True)
        time.sleep(60)
    path.write_text(" ".join(map(str, numbers)))

shards = Shards(sys.argv[1], {"a": 1}, n_items=10, shard_size=4, suffix=".txt")
shards.run(compute, unit="item", description="numbers")
"""


def test_after_kill_9_the_next_run_goes_on_and_what_was_half_written_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "step")],
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "in the second\n"
        process.send_signal(signal.SIGKILL)
    assert len(files(tmp_path)) == 2, "the first shard, and a temporary file"
    recorder = Recorder()
    assert run(make(tmp_path), recorder) == ["0 1 2 3", "4 5 6 7", "8 9"]
    assert recorder.asked == [range(4, 8), range(8, 10)]
    assert files(tmp_path) == {"00000000.txt", "00000001.txt", "00000002.txt"}


def test_the_bar_moves_within_a_shard_and_ends_at_the_number_of_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    bars = []
    original = shards_module.progress_bar

    def progress_bar(*arguments: object, **options: object) -> object:
        bars.append(original(*arguments, **options))  # type: ignore[arg-type]
        return bars[0]

    monkeypatch.setattr(shards_module, "progress_bar", progress_bar)
    shards = make(tmp_path)

    def compute(numbers: range, path: Path) -> None:
        shards.advance(1)
        seen.append(bars[0].n)
        write_numbers(numbers, path)

    run(shards, compute)
    assert seen == [1, 5, 9]
    assert bars[0].n == 10


def test_a_folder_that_is_not_shared_is_told_from_a_slow_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "_VISIBLE_WITHIN", 0.0)
    with pytest.raises(UserError, match="all hosts must share it"):
        wait_until_visible(tmp_path / "absent")


# -- torchrun --------------------------------------------------------------------------------------------------------
SHARED = """
import os, sys, time
from pathlib import Path
from recbole_msm4sr.core.distributed import once, rank
from dataset_prep.encode.shards import Shards

folder, mode = Path(sys.argv[1]), sys.argv[2]

def compute(numbers, path):
    with open(folder / f"rank{rank()}", "a") as log:
        log.write(f"{numbers.start}\\n")
    if mode == "die" and rank() == 1:
        os._exit(7)
    time.sleep(0.05 if rank() else 0.02)
    path.write_text(" ".join(map(str, numbers)))

shards = Shards(folder / "step", {"a": 1}, n_items=90, shard_size=4, suffix=".txt")
shards.run(compute, unit="item", description="numbers")

def join():
    (folder / "joined").write_text("\\n".join(path.read_text() for _, path in shards))
    shards.discard()
    return {"rank": rank()}

assert once(join) == {"rank": 0}
assert (folder / "joined").exists(), "nobody goes on before the first rank has joined"
assert not shards.own_folder.exists()
"""


@pytest.fixture
def shared_work(tmp_path: Path) -> Path:
    path = tmp_path / "shared_work.py"
    path.write_text(SHARED)
    return path


def computed(folder: Path) -> list[int]:
    return [int(line) for path in folder.glob("rank*") for line in path.read_text().splitlines()]


def test_two_processes_compute_every_shard_once_and_give_what_one_gives(tmp_path: Path, shared_work: Path) -> None:
    done = torchrun(str(shared_work), str(tmp_path), "live")
    assert done.returncode == 0, done.stderr
    assert sorted(computed(tmp_path)) == list(range(0, 90, 4))
    assert {path.name for path in tmp_path.glob("rank*")} == {"rank0", "rank1"}
    alone = run(make(tmp_path, n_items=90))
    assert (tmp_path / "joined").read_text().split("\n") == alone


def test_a_process_that_dies_does_not_hang_the_others_and_a_lone_run_goes_on(tmp_path: Path, shared_work: Path) -> None:
    start = time.monotonic()
    done = torchrun(str(shared_work), str(tmp_path), "die")
    assert done.returncode != 0
    assert time.monotonic() - start < 120
    assert not (tmp_path / "joined").exists()
    n_done = len(files(tmp_path / "step") & {path.name for _, path in make(tmp_path, n_items=90)})
    recorder = Recorder()
    run(make(tmp_path, n_items=90), recorder)
    assert len(recorder.asked) == len(make(tmp_path, n_items=90)) - n_done
