"""Step *get*: the two raw files of an Amazon category, from a folder of the user's or from the network."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.download import PartialFile, download
from dataset_prep.fetch.errors import FetchError
from dataset_prep.fetch.releases import AMAZON, release_files
from dataset_prep.layout import Layout
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import fingerprint

logger = logging.getLogger(__name__)


class RawFiles(NamedTuple):
    """The raw files of a category."""

    reviews: Path
    metadata: Path


def amazon_paths(layout: Layout, release: int, category: str, reviews: str, *, raw: Path | None = None) -> RawFiles:
    """Where the files are (``raw``), or will be once they are downloaded; nothing is fetched.

    Args:
        release: 2018 or 2023.
        category: as the release writes it: ``Prime_Pantry``.
        reviews: ``full`` (one JSON record a review), ``5-core`` (users and items with at least 5; for 2023 ratings
            alone) or ``ratings`` (CSV of user, item, rating, time).
        raw: a folder that has the files under the release's names, packed or unpacked, in any sub-folder.

    Raises:
        UserError: there is no such category, or ``raw`` lacks a file.
    """
    files = release_files(release, category, reviews)
    if raw is None:
        return RawFiles(layout.raw / files.reviews, layout.raw / files.metadata)
    if not raw.is_dir():
        raise UserError(f"{raw} is not a folder: give the folder with the files of Amazon {release}")
    entry = AMAZON[release]
    known = [template.format(category) for template in (entry.metadata, *entry.reviews.values())]
    return RawFiles(_find(raw, files.reviews, known), _find(raw, files.metadata, known))


def get_amazon(
    layout: Layout, release: int, paths: RawFiles, *, mirror: str | None = None, client: HttpClient
) -> dict[str, Any]:
    """Download what is not there yet of the files of a category.

    Args:
        paths: of :func:`amazon_paths`. A file that is there was complete, and is taken.
        mirror: URL to download from, with the release's folders below it; the release's own by default.

    Returns:
        Figures ``{"reviews": {...}, "metadata": {...}}``: ``file``, ``bytes``, and for a download ``mtime_ns``,
        ``sha256``, ``url`` (null if it was there already), ``resumed_at`` (bytes that an interrupted run had left).

    Raises:
        UserError: a file cannot be downloaded, or the disk has no room for it. What has come stays, and the next call
            continues from there.
    """
    bases = AMAZON[release].bases if mirror is None else (mirror,)
    figures: dict[str, Any] = {}
    for role, path in paths._asdict().items():
        if path.is_relative_to(layout.raw):
            figures[role] = _download(client, bases, path, layout)
        else:
            figures[role] = {"file": str(path), "bytes": path.stat().st_size}
    return figures


def _download(client: HttpClient, bases: tuple[str, ...], target: Path, layout: Layout) -> dict[str, Any]:
    """Download one file from the first base that has it; its figures."""
    file = str(target.relative_to(layout.root))
    part = PartialFile(target)
    if target.is_file():
        logger.info("get: %s is there already", target.name)
        part.discard()  # a run that was killed may have left its notes
        found = fingerprint(target)
        return {"file": file, "bytes": found.pop("size"), **found, "url": None, "resumed_at": 0}
    failures = []
    for base in bases:
        url = f"{base.rstrip('/')}/{target.relative_to(layout.raw).as_posix()}"
        logger.info("get: %s", url)
        try:
            return {"file": file, **download(client, url, target)}
        except FetchError as error:
            failures.append(f"{url}: {error}")
            if part.size:
                break  # another host would start from the first byte
    raise UserError(
        f"{target.name} cannot be downloaded ({'; '.join(failures)}): run the command again later, it continues where "
        "it stopped; or give another mirror, or a folder that has the file"
    )


def _find(folder: Path, wanted: str, known: Sequence[str]) -> Path:
    """The file below ``folder`` that is the release's ``wanted``, as it came or unpacked (without ``.gz``).

    It may lie in any sub-folder. Where files of the release (``known``) share a name, the names of the folders tell
    them apart.
    """
    name = PurePosixPath(wanted).name
    unpacked = name.removesuffix(".gz")
    named = [Path(parent, file) for parent, _, files in os.walk(folder) for file in files if file in (name, unpacked)]
    files = filter(Path.is_file, named)  # no pipes, and no links that lead nowhere
    fitting = [path for path in files if _shared_tail(path, wanted) == max(_shared_tail(path, one) for one in known)]
    most = max((_shared_tail(path, wanted) for path in fitting), default=0)
    best = sorted(path for path in fitting if _shared_tail(path, wanted) == most)
    # The compressed file before the unpacked one beside it: reading it shows whether it is whole.
    best = [path for path in best if path.with_name(path.name + ".gz") not in best]
    if not best:
        or_unpacked = f" (or, unpacked, {unpacked})" if unpacked != name else ""
        raise UserError(
            f"{folder} has no {name}{or_unpacked}, which the release has as {wanted}: put it there, or leave the "
            "folder out to download it"
        )
    if len(best) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in best)
        raise UserError(f"{folder} has several files that could be {wanted}: {names}; keep one, or name its folder")
    return best[0]


def _shared_tail(path: Path, wanted: str) -> int:
    """Number of parts that two paths have in common at their ends; ``.gz`` does not count."""
    pairs = zip(reversed(path.parts), reversed(PurePosixPath(wanted).parts), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0].removesuffix(".gz") == pair[1].removesuffix(".gz"), pairs))
