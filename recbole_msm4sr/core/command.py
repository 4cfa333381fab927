"""How every command line of the project ends: what is printed, and the exit code."""

from __future__ import annotations

import argparse
import io
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

from recbole_msm4sr.core.distributed import first_to_fail
from recbole_msm4sr.core.errors import UserError, one_line

#: How torch says that memory is short, on a GPU and on the CPU.
_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory")


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def run_command(program: str, work: Callable[[], int | None], *, if_interrupted: str = "") -> int:
    """Run a command and turn what stops it into one line on standard error.

    When several processes fail, only the first prints its message.

    Args:
        program: its name, which begins the line.
        work: the command; its exit code, or None for 0.
        if_interrupted: what a user can do after Ctrl-C.

    Returns:
        The exit code: 0; 2 for what cannot be used or written; 130 after Ctrl-C. It is not a failure
        when the reader of standard output closes it, as ``head`` does.

    Raises:
        Exception: whatever is a fault of the program and deserves a traceback.
    """
    sys.stdout = sys.stdout or _nowhere()  # None where it is closed, as by ">&-"
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a character of a name gets an escape
            stream.reconfigure(errors="backslashreplace")
    try:
        code = work() or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _say(f"{program}: interrupted{if_interrupted and f'; {if_interrupted}'}")
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 0
        if not first_to_fail():
            return 2
        message = _message_of(error)
        if message is None:
            raise
        _say(f"{program}: error: {message}")
        return 2


@contextmanager
def importing(program: str) -> Iterator[None]:
    """Around imports that take seconds: Ctrl-C ends the process at once, with its one line and exit code 130.

    An import that is interrupted by an exception may swallow it, and what is half imported then fails in other ways.
    """

    def end(number: int, frame: object) -> None:
        _say(f"{program}: interrupted")
        os._exit(130)

    if threading.current_thread() is not threading.main_thread():  # only this one can set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _message_of(error: Exception) -> str | None:
    """The line that a user is shown; ``None`` for a defect of the program."""
    if isinstance(error, ModuleNotFoundError):  # some of RecBole's models need packages that RecBole does not install
        return f"this needs the package {error.name!r}, which is not installed"
    if isinstance(error, (UserError, OSError)):  # OSError: a full disk, a folder that cannot be written
        return str(error)
    if isinstance(error, MemoryError) or _MEMORY.search(str(error)):
        reason = str(error).splitlines()[0] if str(error) else "of this machine"
        return f"there is not enough memory ({reason}): lower the sizes of model and batches"
    return None


def _say(line: str) -> None:
    """Print one line, even if quoted names or cells have line ends; nothing if standard error is closed."""
    try:
        print(one_line(line), file=sys.stderr, flush=True)
    except BrokenPipeError:
        _to_nowhere(sys.stderr.fileno())


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that was closed; the rest of the output is discarded, at exit too."""
    try:
        handle = sys.stdout.fileno()
    except (OSError, ValueError):  # not a file, as under a notebook
        return False
    pipe = select.poll()
    pipe.register(handle, 0)
    if not any(events & select.POLLERR for _, events in pipe.poll(0)):
        return False
    _to_nowhere(handle)
    return True


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _to_nowhere(handle: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), handle)
