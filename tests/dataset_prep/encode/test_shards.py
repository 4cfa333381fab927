"""Work cut into shards: finished ones are kept, whoever computes them, and never mixed with others."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from torchrun import ENVIRONMENT, torchrun

from dataset_prep.encode.shards import ShardedRows, wait_until_visible
from recbole_msm4sr.core.errors import UserError

WHOLE = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def make(
    folder: Path, settings: Mapping[str, object] | None = None, n_rows: int = 10, shard_size: int = 4
) -> ShardedRows:
    return ShardedRows(folder / "step", settings or {"a": 1}, n_rows=n_rows, shard_size=shard_size)


class Recorder:
    """The row of an input is its number; remembers which inputs were asked for."""

    def __init__(self, before: Callable[[range], object] = lambda inputs: None) -> None:
        self.before, self.asked = before, list[range]()

    def __call__(self, inputs: range) -> Iterator[np.ndarray]:
        self.before(inputs)
        self.asked.append(inputs)
        for number in inputs:
            yield np.array([[number]])


def run(rows: ShardedRows, rows_of: Recorder | None = None) -> list[list[int]]:
    rows.compute(rows_of or Recorder(), unit="item", description="numbers")
    return [shard[:, 0].tolist() for shard in rows.shards()]


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_every_input_is_in_one_shard_and_they_come_in_order(tmp_path: Path) -> None:
    rows = make(tmp_path)
    assert run(rows) == WHOLE
    assert [rows.row(number).tolist() for number in (9, 0, 5)] == [[9], [0], [5]]
    rows.discard()
    assert not (tmp_path / "step").exists()


def test_finished_shards_are_not_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(make(tmp_path))
    make(tmp_path).path(1).unlink()
    recorder = Recorder()
    with caplog.at_level("INFO"):
        assert run(make(tmp_path), recorder) == WHOLE
    assert recorder.asked == [range(4, 8)]
    assert "2 of 3 shards are there already" in caplog.text


@pytest.mark.parametrize("content", [b"", b"half", "cut", "another length"])
def test_a_damaged_shard_is_computed_again(tmp_path: Path, content: bytes | str) -> None:
    run(make(tmp_path))
    path = make(tmp_path).path(1)
    if content == "another length":
        np.save(path, np.zeros((3, 1)))
    else:
        path.write_bytes(path.read_bytes()[:-4] if isinstance(content, str) else content)
    recorder = Recorder()
    assert run(make(tmp_path), recorder) == WHOLE
    assert recorder.asked == [range(4, 8)]


@pytest.mark.parametrize(
    "other", [{"settings": {"a": 2}}, {"n_rows": 11}, {"shard_size": 5}], ids=["settings", "inputs", "size"]
)
def test_shards_of_other_settings_are_never_used_but_deleted(
    tmp_path: Path, other: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    before = make(tmp_path)
    run(before)
    recorder, now = Recorder(), make(tmp_path, **other)  # type: ignore[arg-type]
    with caplog.at_level("INFO"):
        run(now, recorder)
    assert recorder.asked == [now.inputs(shard) for shard in range(len(now))]
    assert not before.own_folder.exists()
    assert "deleting the finished shards of before" in caplog.text


def test_the_order_of_settings_does_not_matter(tmp_path: Path) -> None:
    run(make(tmp_path, {"a": 1, "b": 2}))
    recorder = Recorder()
    run(make(tmp_path, {"b": 2, "a": 1}), recorder)
    assert recorder.asked == []


def test_a_failure_loses_no_finished_shard_and_leaves_none_half_written(tmp_path: Path) -> None:
    def full(inputs: range) -> None:
        if inputs.start == 8:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run(make(tmp_path), Recorder(full))
    assert files(tmp_path) == {"00000000.npy", "00000001.npy"}
    recorder = Recorder()
    assert run(make(tmp_path), recorder) == WHOLE
    assert recorder.asked == [range(8, 10)]


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from dataset_prep.encode.shards import ShardedRows

def rows_of(inputs):
    if inputs.start == 4:
        (rows.own_folder / f".00000001.npy.{sys.argv[2]}-{2**22 + 1}-0123abcd.tmp").write_text("half")
        print("in the second", flush=True)
        time.sleep(60)
    yield np.arange(inputs.start, inputs.stop)[:, None]

rows = ShardedRows(Path(sys.argv[1]), {"a": 1}, n_rows=10, shard_size=4)
rows.compute(rows_of, unit="item", description="numbers")
"""


def test_after_kill_9_the_next_run_goes_on_and_what_was_half_written_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "step"), os.uname().nodename],
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "in the second\n"
        process.send_signal(signal.SIGKILL)
    assert len(files(tmp_path)) == 2, "the first shard, and a temporary file"
    recorder = Recorder()
    assert run(make(tmp_path), recorder) == WHOLE
    assert recorder.asked == [range(4, 8), range(8, 10)]
    assert files(tmp_path) == {"00000000.npy", "00000001.npy", "00000002.npy"}


def test_a_folder_that_is_not_shared_is_told_from_a_slow_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all hosts must share it"):
        wait_until_visible(tmp_path / "absent", within=0)


# -- torchrun --------------------------------------------------------------------------------------------------------
SHARED = """
import os, sys, time
from pathlib import Path
import numpy as np
from dataset_prep.encode.shards import ShardedRows
from recbole_msm4sr.core.distributed import once, rank

folder, mode = Path(sys.argv[1]), sys.argv[2]

def rows_of(inputs):
    with open(folder / f"rank{rank()}", "a") as log:
        log.write(f"{inputs.start}\\n")
    if mode == "die" and rank() == 1:
        os._exit(7)
    time.sleep(0.05 if rank() else 0.02)
    yield np.arange(inputs.start, inputs.stop)[:, None]

settings = {"a": rank() if mode == "differ" else 1}
rows = ShardedRows(folder / "step", settings, n_rows=90, shard_size=4)
rows.compute(rows_of, unit="item", description="numbers")

def join():
    np.save(folder / "joined.npy", np.concatenate(list(rows.shards())))
    rows.discard()
    return {"rank": rank()}

assert once(join) == {"rank": 0}
assert (folder / "joined.npy").exists(), "nobody goes on before the first process has joined"
assert not rows.own_folder.exists()
"""


@pytest.fixture
def shared_work(tmp_path: Path) -> Path:
    path = tmp_path / "shared_work.py"
    path.write_text(SHARED)
    return path


def test_two_processes_compute_every_shard_once_and_give_what_one_gives(tmp_path: Path, shared_work: Path) -> None:
    done = torchrun(str(shared_work), str(tmp_path), "live")
    assert done.returncode == 0, done.stderr
    computed = [int(line) for path in tmp_path.glob("rank*") for line in path.read_text().splitlines()]
    assert sorted(computed) == list(range(0, 90, 4))
    assert {path.name for path in tmp_path.glob("rank*")} == {"rank0", "rank1"}
    assert np.load(tmp_path / "joined.npy")[:, 0].tolist() == list(range(90))


def test_a_process_that_dies_does_not_hang_the_others_and_a_lone_run_goes_on(tmp_path: Path, shared_work: Path) -> None:
    start = time.monotonic()
    done = torchrun(str(shared_work), str(tmp_path), "die")
    assert done.returncode != 0
    assert time.monotonic() - start < 120
    assert not (tmp_path / "joined.npy").exists()
    rows = make(tmp_path, n_rows=90)
    n_done = sum(rows.path(shard).exists() for shard in range(len(rows)))
    recorder = Recorder()
    run(rows, recorder)
    assert len(recorder.asked) == len(rows) - n_done


def test_processes_that_read_different_inputs_are_told_so(tmp_path: Path, shared_work: Path) -> None:
    done = torchrun(str(shared_work), str(tmp_path), "differ")
    assert done.returncode != 0
    assert "the processes do not read the same inputs" in done.stderr
