"""Step *get*: the two raw files of an Amazon category, from a folder of the user's or from the network."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.download import download
from dataset_prep.fetch.errors import FetchError
from dataset_prep.fetch.partial import PartialFile
from dataset_prep.fetch.raw_folder import find_file
from dataset_prep.fetch.releases import AMAZON, release_files
from dataset_prep.layout import Layout
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import sha256_of_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawFiles:
    """The raw files of a category, and what is known of where they came from."""

    reviews: Path
    metadata: Path
    figures: dict[str, Any] = field(default_factory=dict)


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
    layout: Layout,
    release: int,
    category: str,
    reviews: str,
    *,
    raw: Path | None = None,
    mirror: str | None = None,
    client: HttpClient,
) -> RawFiles:
    """Find or download the files of a category; see :func:`amazon_paths`.

    Downloads go to ``layout.raw``, under the paths they have in the release; a file that is there already was complete
    and is taken.

    Args:
        mirror: URL to download from, with the release's folders below it; the release's own by default.

    Returns:
        The paths, with ``figures`` ``{"reviews": {...}, "metadata": {...}}``: ``file``, ``bytes``, and for a download
        ``url`` (null if it was there already), ``sha256``, ``resumed_at`` (bytes that an interrupted run had left).

    Raises:
        UserError: as :func:`amazon_paths`; or a file cannot be downloaded, or the disk has no room for it. What has
            come stays, and the next call goes on from there.
    """
    paths = amazon_paths(layout, release, category, reviews, raw=raw)
    if raw is not None:
        figures = {role: {"file": str(path), "bytes": path.stat().st_size} for role, path in _roles(paths)}
        return RawFiles(paths.reviews, paths.metadata, figures)
    bases = AMAZON[release].bases if mirror is None else (mirror,)
    figures = {role: _download(client, bases, path, layout) for role, path in _roles(paths)}
    return RawFiles(paths.reviews, paths.metadata, figures)


def _find(raw: Path, wanted: str, known: list[str]) -> Path:
    path = find_file(raw, wanted, known)
    if path is None:
        name = PurePosixPath(wanted).name
        unpacked = f" (or, unpacked, {name.removesuffix('.gz')})" if name.endswith(".gz") else ""
        raise UserError(
            f"{raw} has no {name}{unpacked}, which the release has as {wanted}: put it there, or leave the folder out "
            "to download it"
        )
    return path


def _roles(paths: RawFiles) -> tuple[tuple[str, Path], tuple[str, Path]]:
    return ("reviews", paths.reviews), ("metadata", paths.metadata)


def _download(client: HttpClient, bases: tuple[str, ...], target: Path, layout: Layout) -> dict[str, Any]:
    """Download one file from the first base that has it; its figures."""
    path = target.relative_to(layout.raw).as_posix()
    file = str(target.relative_to(layout.root))
    if target.is_file():
        logger.info("get: %s is there already", target.name)
        size = target.stat().st_size
        return {"file": file, "bytes": size, "url": None, "sha256": sha256_of_file(target), "resumed_at": 0}
    failures = []
    for base in bases:
        url = f"{base.rstrip('/')}/{path}"
        logger.info("get: %s", url)
        try:
            got = download(client, url, target)
        except FetchError as error:
            failures.append(f"{url}: {error}")
            if PartialFile(target).size:
                break  # another host would start from the first byte
            continue
        return {"file": file, "bytes": got.size, "url": url, "sha256": got.sha256, "resumed_at": got.resumed_at}
    raise UserError(
        f"{target.name} cannot be downloaded ({'; '.join(failures)}): run the command again later, it goes on where it "
        "stopped; or give another mirror, or a folder that has the file"
    )
