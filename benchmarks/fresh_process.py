"""Run functions in processes of their own, and measure how much memory they need."""

from __future__ import annotations

import multiprocessing
import re
import resource
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any

import torch

_SHARE_OF_FREE_MEMORY = 0.85

# Forked from a server that has imported these, a process starts in milliseconds, and what it holds at the start is what
# the imports need. Trainers and optimisers import the last three when they are first used. (CUDA does not outlive a
# fork.)
_FRESH: SpawnContext | ForkServerContext = (
    multiprocessing.get_context("spawn") if torch.cuda.is_available() else multiprocessing.get_context("forkserver")
)
_FRESH.set_forkserver_preload(
    [
        "recbole.data.utils",
        "recbole.model.sequential_recommender",
        "recbole_msm4sr.data.loading",
        "recbole_msm4sr.model.msm4sr",
        "recbole_msm4sr.training.trainer",
        "tensorboard.compat",
        "torch._dynamo",
        "torch.utils.tensorboard",
    ]
)


@dataclass(frozen=True)
class Outcome:
    """What a function left that ran in a fresh process.

    Attributes:
        value: what it returned; ``None`` if it failed.
        failure: why it did not finish; empty if it did.
    """

    value: Any = None
    failure: str = ""


def in_fresh_process(function: Callable[..., Any], *args: Any, time_limit: float | None = None) -> Outcome:
    """Call ``function(*args)`` in a process that has done nothing but its imports.

    Its private memory is limited to what the machine has free, so that running out of it ends this process and no
    other. (Not with a GPU: CUDA reserves far more addresses than it uses.)

    Args:
        function: importable by name.
        time_limit: seconds after which it is ended; ``None``: never.

    Returns:
        Its value, or that it ran out of memory or time. Any other exception is raised here.
    """
    memory_limit = int(_mebibytes("/proc/meminfo", "MemAvailable") * 2**20 * _SHARE_OF_FREE_MEMORY)
    receiver, sender = _FRESH.Pipe(duplex=False)
    process = _FRESH.Process(target=_report, args=(sender, function, args, memory_limit), daemon=True)
    process.start()
    sender.close()
    if not receiver.poll(time_limit):
        process.kill()
        process.join()
        return Outcome(failure=f"took more than {time_limit:.0f} s")
    try:
        outcome = receiver.recv()
    except EOFError:
        process.join()
        return Outcome(failure=f"ended with exit code {process.exitcode}")
    process.join()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class Resident:
    """An object that lives in a process of its own, so that settings of that process are its alone.

    Args:
        build: makes the object there; importable by name.
        args: of ``build``.
    """

    def __init__(self, build: Callable[..., Any], *args: Any) -> None:
        self._connection, there = _FRESH.Pipe()
        self._process = _FRESH.Process(target=_serve, args=(there, build, args), daemon=True)
        self._process.start()
        there.close()
        self._receive()

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """``function(object, *args)``, evaluated there; ``function`` is importable by name.

        Raises:
            RuntimeError: the process has ended. An exception of ``function`` is raised as it is.
        """
        self._connection.send((function, args))
        return self._receive()

    def __enter__(self) -> Resident:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"the process ended with exit code {self._process.exitcode}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(connection: Connection, build: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        subject = build(*args)
        connection.send(None)
        while True:
            function, arguments = connection.recv()
            connection.send(function(subject, *arguments))
    except EOFError:
        return  # the parent has ended
    except Exception as error:
        connection.send(error)


def _report(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...], memory_limit: int) -> None:
    if not torch.cuda.is_available():
        resource.setrlimit(resource.RLIMIT_DATA, (memory_limit, memory_limit))
    try:
        sender.send(Outcome(value=function(*args)))
    except Exception as error:
        if isinstance(error, MemoryError) or re.search("allocate memory|out of memory", str(error)):
            sender.send(Outcome(failure=f"ran out of memory ({memory_limit / 2**30:.0f} GiB)"))
        else:
            sender.send(error)


def peak_memory(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """Call ``function`` and measure how far the process's memory rises above where it is now. Linux.

    ``getrusage`` does not do: a process that was started by a large one inherits that one's peak.

    Returns:
        What ``function`` returns, and the growth of the peak resident memory in MiB.
    """
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to VmRSS
    before = _mebibytes("/proc/self/status", "VmRSS")
    value = function(*args)
    return value, _mebibytes("/proc/self/status", "VmHWM") - before


def _mebibytes(file: str, key: str) -> float:
    for line in Path(file).read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 2**10  # the kernel writes KiB
    raise RuntimeError(f"{file} has no {key}")
