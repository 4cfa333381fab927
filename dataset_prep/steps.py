"""Run a step once: skip it while its settings, inputs and outputs are as its summary says, else run it and write one.

A step's summary (``prep/<step>.json``) appears when the step is finished and not before, so an interrupted step is
run again; what it had done by then it finds itself (partial downloads, the ledger of pictures, shards).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dataset_prep.layout import Layout
from recbole_msm4sr import __version__
from recbole_msm4sr.core.distributed import once
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_file, sha256_of_file

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
_PACKAGES = (
    *("numpy", "pillow", "torch", "transformers", "sentence-transformers"),
    *("ftfy", "selectolax", "sentencex", "wordfreq"),
)


def run_step(
    layout: Layout,
    name: str,
    *,
    settings: Mapping[str, Any],
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    work: Callable[[], Mapping[str, Any]],
    parallel: bool = False,
    again: bool = False,
) -> dict[str, Any]:
    """Run ``work`` unless an earlier run with the same settings and inputs left all outputs in place.

    Under torchrun every process calls this, and the first one decides, and writes the summary.

    Args:
        settings: all that the outputs depend on, apart from the inputs' contents; must fit into JSON.
        inputs: files and folders that ``work`` reads.
        outputs: files and folders that ``work`` makes.
        work: returns the figures for the summary.
        parallel: whether all processes of torchrun run ``work``; otherwise the first does, and the others wait.
        again: run it even so.

    Returns:
        The summary: ``step``, ``settings``, ``inputs``, ``outputs``, ``figures``, ``seconds``, ``finished`` (UTC),
        ``versions``.

    Raises:
        UserError: an input is missing, or whatever ``work`` raises.
    """
    settings = json.loads(json.dumps(settings))  # as it is read back: tuples are lists

    def finished_before() -> dict[str, Any] | None:
        earlier = read_summary(layout, name)
        if earlier is None or again:
            return None
        if earlier["settings"] != settings or _digests(earlier["inputs"]) != _digests(identify(earlier["inputs"])):
            logger.info("%s: its settings or inputs have changed since %s; it runs again", name, earlier["finished"])
            return None
        if earlier["outputs"] != _describe(layout, outputs):
            logger.info("%s: what it made has changed or is gone; it runs again", name)
            return None
        logger.info("%s: done already on %s", name, earlier["finished"])
        return earlier

    def identify(known: Mapping[str, Any]) -> dict[str, Any]:
        return {_label(layout, path): _identify(path, known.get(_label(layout, path))) for path in inputs}

    def finish() -> dict[str, Any]:
        summary = {
            "format_version": FORMAT_VERSION,
            "step": name,
            "settings": settings,
            "inputs": read,
            "outputs": _describe(layout, outputs),
            "figures": dict(figures),
            "seconds": round(time.monotonic() - start, 3),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
        }
        with atomic_file(layout.summary(name)) as temporary:
            temporary.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        logger.info("%s: finished in %.1f s", name, summary["seconds"])
        return summary

    earlier = once(finished_before)
    if earlier is not None:
        return earlier
    read = once(lambda: identify({}))
    start = time.monotonic()
    figures = work() if parallel else once(work)
    return once(finish)


def read_summary(layout: Layout, name: str) -> dict[str, Any] | None:
    """The summary of a finished step, or None: the step has not been finished, or by a version with another format.

    Raises:
        UserError: the file is not JSON.
    """
    path = layout.summary(name)
    if not path.is_file():
        return None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): remove it, and the step runs again") from error
    return summary if isinstance(summary, dict) and summary.get("format_version") == FORMAT_VERSION else None


def _label(layout: Layout, path: Path) -> str:
    """How a summary names a path: relative inside the data set, absolute outside."""
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(layout.root)) if absolute.is_relative_to(layout.root) else str(absolute)


def _identify(path: Path, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Size, time and digest of a file, or of a folder's list of files.

    A digest that an earlier run took of a file of the same size and time is taken over: raw files have gigabytes.
    """
    if path.is_dir():
        return {"sha256": _digest_of_folder(path)}
    if not path.is_file():
        raise UserError(f"{path} is missing: run the step that makes it, or give another path")
    status = path.stat()
    if known and known.get("size") == status.st_size and known.get("mtime_ns") == status.st_mtime_ns:
        return dict(known)
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_of_file(path)}


def _digests(inputs: Mapping[str, Any]) -> dict[str, str]:
    """What has to be the same for inputs to be the same, whatever their times say."""
    return {label: entry["sha256"] for label, entry in inputs.items()}


def _describe(layout: Layout, outputs: Sequence[Path]) -> dict[str, Any]:
    """What tells an output from another: a file's size and time, a folder's list of files; None if it is not there."""
    described: dict[str, Any] = {}
    for path in outputs:
        if path.is_dir():
            described[_label(layout, path)] = {"sha256": _digest_of_folder(path)}
        elif path.is_file():
            status = path.stat()
            described[_label(layout, path)] = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        else:
            described[_label(layout, path)] = None
    return described


def _digest_of_folder(folder: Path) -> str:
    """Digest of the names, sizes and times of all files below a folder."""
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(parent) / name
            status = path.stat()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    """Versions of what shapes the outputs."""
    versions = {"recbole-msm4sr": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
