"""Run a step once: skip it while its settings, inputs and outputs are as its summary says, else run it and write one.

A step's summary (``prep/<step>.json``) appears when the step is finished and not before, so an interrupted step is
run again. It finds what it had finished by then: partial downloads, the ledger of pictures, shards.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dataset_prep.encode.shards import wait_until_visible
from dataset_prep.fetch.client import HttpClient
from dataset_prep.layout import Layout
from dataset_prep.options import Options
from dataset_prep.sources import Source
from recbole_msm4sr.core.distributed import once
from recbole_msm4sr.core.done import DoneRecord, key_of, read_json
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import fingerprint
from recbole_msm4sr.core.versions import versions

logger = logging.getLogger(__name__)

_PACKAGES = (
    *("recbole-msm4sr", "numpy", "pillow", "torch", "transformers", "sentence-transformers"),
    *("ftfy", "selectolax", "sentencex", "wordfreq", "duckdb"),
)
_SHAPE = {
    **{"step": str, "settings": dict, "inputs": dict, "outputs": dict, "figures": dict},
    **{"seconds": int | float, "finished": str, "key": str},
}


@dataclass(frozen=True)
class Step:
    """A piece of the preparation.

    Attributes:
        name: of its summary.
        settings: all that the outputs depend on, apart from the inputs' contents; must fit into JSON.
        inputs: files and folders that ``work`` reads.
        outputs: files and folders that it makes.
        work: makes them, and returns the figures for the summary.
        parallel: whether all processes of torchrun run ``work``; otherwise the first does, and the others wait.
        again: run it even if it is done.
        shards: the folder of what is finished of it, until all is joined.
        origin: names of figures that a manifest of what is made of the outputs repeats.
    """

    name: str
    settings: Mapping[str, Any]
    inputs: Sequence[Path]
    outputs: Sequence[Path]
    work: Callable[[], Mapping[str, Any]]
    parallel: bool = False
    again: bool = False
    shards: Path | None = None
    origin: Sequence[str] = ()


@dataclass(frozen=True)
class Preparation:
    """What all rows of the table are made from."""

    source: Source
    layout: Layout
    options: Options
    modalities: tuple[str, ...]

    @property
    def has_image(self) -> bool:
        """Whether there is to be an image store."""
        return "image" in self.modalities

    @property
    def image_is_words(self) -> bool:
        """Whether the image store holds Sentence-BERT's vectors of words (eq. 2), and not those of pictures."""
        return self.options.image_features == "keywords"

    @property
    def given_words(self) -> Path | None:
        """The file of the user's that the image store is made of; None: words or vectors of the pictures."""
        return self.source.keywords if self.image_is_words else None

    @property
    def item_file(self) -> Path | None:
        """The file that describes the items; None if there is no text."""
        return self.source.item_file(self.layout)

    def client(self) -> HttpClient:
        """What asks the network; to be used as a context manager."""
        return HttpClient(per_host=self.options.per_host, allow_private=self.options.allow_private)


def run_step(layout: Layout, step: Step) -> None:
    """Do the step's work unless an earlier run with the same settings and inputs left all outputs in place.

    Under torchrun every process calls this, and the first one decides, and writes the summary: ``step``, ``settings``,
    ``inputs``, ``outputs``, ``figures``, ``seconds``, ``finished`` (UTC), ``versions``.

    Raises:
        UserError: an input is missing, or whatever ``work`` raises.
    """
    inputs: dict[str, Any] = {}  # on the first process

    def outputs() -> dict[str, Any]:
        return {_label(layout, path): _state(path) for path in step.outputs}

    def is_done() -> bool:
        earlier = read_summary(layout, step.name)
        known = _known(layout)
        for path in step.inputs:
            inputs[_label(layout, path)] = _identify(path, known.get(_label(layout, path)))
        if earlier is None or step.again:
            return False
        if earlier["key"] != _key(step, inputs):
            logger.info(
                "%s: its settings or inputs have changed since %s; it runs again", step.name, earlier["finished"]
            )
            return False
        if earlier["outputs"] != outputs():
            logger.info("%s: what it made has changed or is gone; it runs again", step.name)
            return False
        logger.info("%s: done already on %s", step.name, earlier["finished"])
        return True

    def finish() -> None:
        seconds = round(time.monotonic() - start, 3)
        summary = {
            "step": step.name,
            "settings": step.settings,
            "inputs": inputs,
            "outputs": outputs(),
            "figures": figures,
            "seconds": seconds,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(_PACKAGES),
        }
        DoneRecord(layout.summary(step.name), _key(step, inputs)).write(summary)
        logger.info("%s: finished in %.1f s", step.name, seconds)

    if once(is_done):
        return
    start = time.monotonic()
    if step.parallel:
        for path in step.inputs:
            wait_until_visible(path)
    figures = step.work() if step.parallel else once(step.work)
    once(finish)


def read_summary(layout: Layout, name: str) -> dict[str, Any] | None:
    """The summary of a finished step; None if the step is not finished, or its summary is damaged."""
    return read_json(layout.summary(name), _SHAPE)


def _known(layout: Layout) -> dict[str, Any]:
    """Fingerprints of files that finished steps read or downloaded, by label: raw files are large, and hashed once."""
    known: dict[str, Any] = {}
    for path in sorted(layout.prep.glob("*.json")):
        summary = read_summary(layout, path.stem)
        if summary is not None:
            known |= summary["inputs"]
            for entry in summary["figures"].values():
                if isinstance(entry, dict) and entry.keys() >= {"file", "bytes", "mtime_ns", "sha256"}:
                    known[entry["file"]] = {**entry, "size": entry["bytes"]}
    return known


def _key(step: Step, inputs: Mapping[str, Any]) -> str:
    """Inputs are the same if their content is, whatever their times say."""
    return key_of({"settings": step.settings, "inputs": {label: entry["sha256"] for label, entry in inputs.items()}})


def _label(layout: Layout, path: Path) -> str:
    """How a summary names a path: relative inside the data set, absolute outside."""
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(layout.root)) if absolute.is_relative_to(layout.root) else str(absolute)


def _identify(path: Path, known: object) -> dict[str, Any]:
    """Size, time and digest of a file, or the digest of a folder's list of files.

    A digest that an earlier run took of a file of the same size and time is taken over: raw files have gigabytes.
    """
    if path.is_file():
        return fingerprint(path, known if isinstance(known, dict) else None)
    state = _state(path)
    if state is None:
        raise UserError(f"{path} is missing: run the step that makes it, or give another path")
    return state


def _state(path: Path) -> dict[str, Any] | None:
    """What tells an output from another: a file's size and time, a folder's list of files; None if it is not there."""
    if path.is_dir():
        return {"sha256": _digest_of_folder(path)}
    if not path.is_file():
        return None
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _digest_of_folder(folder: Path) -> str:
    """Digest of the names, sizes and times of all files below a folder; of a link that leads nowhere, its own."""
    digest = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(parent) / name
            status = path.stat() if path.exists() else path.lstat()
            digest.update(os.fsencode(path.relative_to(folder).as_posix()))
            digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
