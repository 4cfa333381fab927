"""A command that fails ends with one line and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from recbole_msm4sr.core.command import run_command
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.versions import versions


def failing(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a.csv:3: no user"), 2, "prog: error: a.csv:3: no user"),
        (OSError(28, "No space left on device", "a/b"), 2, "prog: error: [Errno 28] No space left on device: 'a/b'"),
        (ModuleNotFoundError("no", name="dgl"), 2, "prog: error: this needs the package 'dgl', which is not installed"),
        (UserError("x\x1b[31m\n\udcff\u202e"), 2, r"prog: error: x\x1b[31m\n\udcff\u202e"),
        (BrokenPipeError(32, "Broken pipe"), 2, "prog: error: [Errno 32] Broken pipe"),  # not of standard output
        (KeyboardInterrupt(), 130, "prog: interrupted; run it again"),
    ],
)
def test_it_is_said_in_one_line(error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("prog", failing(error), if_interrupted="run it again") == code
    assert capsys.readouterr().err == f"{line}\n"


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command("prog", failing(ZeroDivisionError()))
    assert run_command("prog", lambda: 3) == 3
    assert run_command("prog", lambda: None) == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_closes_the_output_is_not_a_failure(unbuffered: str) -> None:
    script = "from recbole_msm4sr.core.command import run_command as run; exit(run('p', lambda: print('x' * 99)))"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_versions_of_packages_that_are_not_here() -> None:
    found = versions(["numpy", "no-such-package"])
    assert found["no-such-package"] == "not installed"
    assert found["numpy"][0].isdigit()
