"""What a command does with an input: it works, or it ends with exit code 2 and one line that says what is wrong.

Commands run in this process, so that thousands of inputs can be tried in minutes.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

Command = Callable[[Sequence[str]], int]

_LONGEST = 60  # seconds until a command counts as hanging
_LONGEST_LINE = 2100  # characters of an error message


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def works(self) -> bool:
        """Whether the command did what it was asked for."""
        return self.code == 0

    @property
    def message(self) -> str:
        """The last line of standard error: for exit code 2, what is wrong."""
        lines = self.stderr.splitlines()
        return lines[-1] if lines else ""


class Hang(Exception):
    """A command took longer than any of these inputs can need."""


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def give_up(number: int, frame: FrameType | None) -> None:
        raise Hang(f"no end after {_LONGEST} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome_of(command: Command, argv: Sequence[str], names: Sequence[str]) -> Outcome:
    """Run a command and check the rule.

    Args:
        command: ``main`` of a command line.
        argv: its words.
        names: files and keys, one of which an error message has to name.

    Raises:
        AssertionError: it fails in another way than by one clear line. A traceback passes through.
    """
    stdout, stderr = io.StringIO(), io.StringIO()
    with _time_limit(), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            code = command(list(argv))
        except SystemExit as exit_:  # argparse
            code = exit_.code if isinstance(exit_.code, int) else 1
    outcome = Outcome(code, stdout.getvalue(), stderr.getvalue())
    assert outcome.code in (0, 2), f"exit code {outcome.code}: {outcome.stderr}"
    if not outcome.works:
        message = outcome.message
        assert "error: " in message, f"the last line is not an error message: {outcome.stderr!r}"
        assert message.isprintable(), f"control characters are echoed: {message!r}"
        assert len(message) <= _LONGEST_LINE, f"the message has {len(message)} characters"
        assert any(name in message for name in names), f"none of {names} is named: {message!r}"
    return outcome


def metrics_of(runs: Path, dataset: str, model: str) -> dict[str, Any]:
    """What the latest run of a model left: its ``metrics.json``."""
    latest = max((runs / dataset / model).glob("*/metrics.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(latest.read_text(encoding="utf-8"))
