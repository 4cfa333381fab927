"""Kills a command with SIGKILL at one of its write events, and checks what the same command makes of the rest.

A write event is the moment before a file below the current folder is opened for writing, renamed, linked or removed,
or a folder is made or removed. Python announces each to audit hooks, so that nothing has to be patched.

    python tests/robustness/kill.py            every event of every command (make kill)
    python tests/robustness/kill.py --every=9  every ninth
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

Command = Callable[[], int]

_WRITES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
_KILLED = -signal.SIGKILL


def _is_write(event: str, arguments: Sequence[Any], below: str) -> bool:
    """Whether an audit event is about to change something below a folder."""
    if event == "open":
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if mode is None else set("wax+") & set(mode)
        if not writes or not isinstance(path, (str, bytes, os.PathLike)):
            return False
    elif event in _WRITES:
        path = arguments[0]
    else:
        return False
    return os.path.abspath(os.fsdecode(path)).startswith(below + os.sep)


def _child(command: Command, folder: str, fatal: int | None, counted: Any) -> None:
    os.chdir(folder)
    silence = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    below, own = os.path.realpath(folder), os.getpid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if (event == "open" or event in _WRITES) and os.getpid() == own and _is_write(event, arguments, below):
            if fatal is not None and counted.value == fatal:
                os.kill(own, signal.SIGKILL)
            counted.value += 1

    sys.addaudithook(hook)
    sys.exit(command())


def run(command: Command, folder: Path, fatal: int | None = None) -> tuple[int, int]:
    """Run a command in ``folder``, in a process of its own.

    Args:
        fatal: the write event at which it is killed, counted from 0.

    Returns:
        Its exit code, -9 where it was killed, and the number of write events that it survived.
    """
    context = multiprocessing.get_context("fork")  # everything is imported already
    counted = context.Value("q", 0)
    process = context.Process(target=_child, args=(command, str(folder), fatal, counted))
    process.start()
    process.join()
    return process.exitcode or 0, counted.value


def kill_points(every: int, n_events: int) -> Iterator[int]:
    """The events to kill at."""
    return iter(range(0, n_events, every))


def left_overs(folder: Path) -> list[str]:
    """What no finished command and no ``msm4sr clean`` leaves: temporaries, progress of finished stages."""
    found = [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".old")) or path.name == "progress.pth"]
    return sorted(str(path.relative_to(folder)) for path in found)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check(
    commands: Sequence[Command],
    results: Callable[[Path], Any],
    prepare: Callable[[Path], None],
    every: int,
    first: int = 0,
) -> Iterator[str]:
    """Kill the first of ``commands`` at its events, run all of them to their end, and compare what they leave.

    Args:
        commands: the one to kill, which is run again afterwards, and the commands that follow.
        results: what has to be the same, killed or not.
        prepare: fills a new folder with the inputs.
        every: 1 for every event, 2 for every second, ...
        first: the first event to kill at.

    Yields:
        One line for every kill after which something is wrong.
    """
    with tempfile.TemporaryDirectory() as whole:
        prepare(Path(whole))
        code, n_events = run(commands[0], Path(whole))
        assert code == 0, (Path(whole) / "output").read_text()
        assert n_events > 0, "the command writes nothing"
        for command in commands[1:]:
            assert run(command, Path(whole))[0] == 0
        expected = results(Path(whole))
    for fatal in range(first, n_events, every):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder)
            killed, _ = run(commands[0], folder, fatal)
            codes = [run(command, folder)[0] for command in commands]
            if any(codes):
                last = (folder / "output").read_text(errors="replace").splitlines()[-1:]
                yield f"event {fatal} (exit {killed}): the same command then exits with {codes}: {last}"
            elif results(folder) != expected:
                yield f"event {fatal}: other results than without the kill: {results(folder)} {expected}"
            elif left_overs(folder):
                yield f"event {fatal}: left over: {left_overs(folder)}"


def main() -> int:
    """Kill every command of test_kills.py at every event; returns 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    every = parser.parse_args().every
    import test_kills  # beside this file

    wrong = 0
    for name, (commands, results, prepare) in test_kills.CASES.items():
        print(f"{name}: at every event" if every == 1 else f"{name}: at every {every}th event", flush=True)
        for line in check(commands, results, prepare, every):
            print(f"  {line}", flush=True)
            wrong += 1
    print(f"{wrong} kills after which something was wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
