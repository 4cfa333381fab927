"""Where a data set comes from: an Amazon release, or files of the user's. What the steps ask of either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dataset_prep.fetch.amazon import RawFiles, amazon_paths, get_amazon
from dataset_prep.fetch.client import HttpClient
from dataset_prep.interactions.table_one import Sizes, table_one
from dataset_prep.layout import Layout
from dataset_prep.readers.amazon_metadata import read_amazon_2018, read_amazon_2023
from dataset_prep.readers.amazon_reviews import amazon_events
from dataset_prep.readers.custom_items import read_custom
from dataset_prep.readers.events import Event
from dataset_prep.readers.items import Item
from dataset_prep.readers.rejected import Rejected
from dataset_prep.readers.tables import table_events
from recbole_msm4sr.core.errors import UserError


class Source(Protocol):
    """What is prepared.

    Attributes:
        settings: what it was asked for, for the summaries.
        modalities: what it surely has, of ``text`` and ``image``.
        pictures: a folder of the user's pictures; None if the catalogue names URLs.
        keywords: a file of the user's with words for the pictures, instead of CLIP's.
    """

    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def modalities(self) -> tuple[str, ...]: ...
    @property
    def pictures(self) -> Path | None: ...
    @property
    def keywords(self) -> Path | None: ...

    def check(self, layout: Layout) -> None:
        """Raise a ``UserError`` if there is no such category, or a file or folder of the user's is not there."""
        ...

    def get(self, layout: Layout, client: HttpClient) -> Mapping[str, Any]:
        """Fetch what is not here yet; returns figures."""
        ...

    def fetched(self, layout: Layout) -> list[Path]:
        """The files that :meth:`get` makes or finds; empty if there is nothing to get."""
        ...

    def interaction_file(self, layout: Layout) -> Path:
        """The file that :meth:`events` reads."""
        ...

    def catalogue_file(self, layout: Layout) -> Path | None:
        """The file that :meth:`catalogue` reads; None if there is no text."""
        ...

    def events(self, layout: Layout, rejected: Rejected) -> Iterator[Event]:
        """Stream who did what, and when."""
        ...

    def catalogue(self, layout: Layout, rejected: Rejected) -> Iterator[Item]:
        """Stream the items; nothing if there is no text."""
        ...

    def reference(self, layout: Layout) -> Sizes | None:
        """Table I's row, if this is one of its data sets."""
        ...


@dataclass(frozen=True)
class AmazonSource:
    """A category of the Amazon reviews of 2018 or 2023.

    Attributes:
        reviews: ``full``, ``5-core`` or ``ratings``.
        raw: a folder that has the files; None: they are downloaded.
        mirror: URL to download from; None: the release's own.
    """

    release: int
    category: str
    reviews: str = "full"
    raw: Path | None = None
    mirror: str | None = None

    modalities = ("text", "image")
    pictures = None
    keywords = None

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"release": self.release, "category": self.category, "reviews": self.reviews}

    def check(self, layout: Layout) -> None:
        self._paths(layout)

    def get(self, layout: Layout, client: HttpClient) -> Mapping[str, Any]:
        return get_amazon(
            layout, self.release, self.category, self.reviews, raw=self.raw, mirror=self.mirror, client=client
        )

    def fetched(self, layout: Layout) -> list[Path]:
        paths = self._paths(layout)
        return [paths.reviews, paths.metadata]

    def interaction_file(self, layout: Layout) -> Path:
        return self._paths(layout).reviews

    def catalogue_file(self, layout: Layout) -> Path | None:
        return self._paths(layout).metadata

    def events(self, layout: Layout, rejected: Rejected) -> Iterator[Event]:
        return amazon_events(self._paths(layout).reviews, self.release, rejected)

    def catalogue(self, layout: Layout, rejected: Rejected) -> Iterator[Item]:
        read = {2018: read_amazon_2018, 2023: read_amazon_2023}[self.release]
        return read(self._paths(layout).metadata, rejected)

    def reference(self, layout: Layout) -> Sizes | None:
        return table_one(self.category) if self.release == 2018 else None

    def _paths(self, layout: Layout) -> RawFiles:
        return amazon_paths(layout, self.release, self.category, self.reviews, raw=self.raw)


@dataclass(frozen=True)
class CustomSource:
    """Files of the user's.

    Attributes:
        inter: a table with a header, or an atomic file.
        columns: names of its columns for ``user``, ``item``, ``timestamp`` where they are not the usual ones.
        text: JSON lines with an ``item_id``.
        pictures: a folder of pictures.
        keywords: ``image_keywords.jsonl``, words for the pictures that are there already.
    """

    inter: Path
    columns: Mapping[str, str] | None = None
    text: Path | None = None
    pictures: Path | None = None
    keywords: Path | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Picture URLs in the catalogue are not looked for here: name ``image`` to have them fetched."""
        has = {"text": self.text, "image": self.pictures or self.keywords}
        return tuple(name for name, path in has.items() if path)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"columns": dict(self.columns or {})}

    def check(self, layout: Layout) -> None:
        for what, path in (("interactions", self.inter), ("text", self.text), ("keywords", self.keywords)):
            if path is not None and not path.is_file():
                raise UserError(f"{path} is not a file: give the file of {what}")
            if path is not None and path.resolve() in {made.resolve() for made in layout.made}:
                raise UserError(f"{path} would be replaced by what is made of it: move it, or give another --out")
        if self.pictures is not None and not self.pictures.is_dir():
            raise UserError(f"{self.pictures} is not a folder: give the folder that holds the pictures")
        if self.pictures is not None and layout.root.resolve().is_relative_to(self.pictures.resolve()):
            raise UserError(f"--out {layout.root} lies inside --images {self.pictures}: give a folder beside it")

    def get(self, layout: Layout, client: HttpClient) -> Mapping[str, Any]:
        return {}

    def fetched(self, layout: Layout) -> list[Path]:
        return []

    def interaction_file(self, layout: Layout) -> Path:
        return self.inter

    def catalogue_file(self, layout: Layout) -> Path | None:
        return self.text

    def events(self, layout: Layout, rejected: Rejected) -> Iterator[Event]:
        return table_events(self.inter, rejected, self.columns)

    def catalogue(self, layout: Layout, rejected: Rejected) -> Iterator[Item]:
        return read_custom(self.text, rejected) if self.text else iter(())

    def reference(self, layout: Layout) -> Sizes | None:
        return None
