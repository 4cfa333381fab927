"""Where a data set comes from: an Amazon release, or files of the user's. What the steps ask of either."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from dataset_prep.fetch.amazon import RawFiles, amazon_paths, get_amazon
from dataset_prep.fetch.client import HttpClient
from dataset_prep.fetch.releases import REVIEWS
from dataset_prep.interactions.table_one import Sizes, table_one
from dataset_prep.layout import Layout
from dataset_prep.options import Settings, option
from dataset_prep.readers.amazon_metadata import read_amazon_2018, read_amazon_2023
from dataset_prep.readers.amazon_reviews import amazon_events
from dataset_prep.readers.custom_items import read_custom
from dataset_prep.readers.events import Event
from dataset_prep.readers.items import Item
from dataset_prep.readers.rejected import Rejected
from dataset_prep.readers.tables import parse_columns, table_events
from recbole_msm4sr.core.errors import UserError


class AmazonSource(Settings):
    """A category of the Amazon reviews of 2018 or 2023."""

    release: int = option(2018, "2018 or 2023")
    category: str = option(..., "as the release writes it: Prime_Pantry")
    reviews: str = option("full", "of which file", one_of=REVIEWS)
    raw: Path | None = option(None, "folder with the release's files; else: download", metavar="DIR")
    mirror: str | None = option(None, "download from here instead of the release's own address", metavar="URL")

    #: Those that every category has.
    modalities: ClassVar[tuple[str, ...]] = ("text", "image")
    images: ClassVar[Path | None] = None
    keywords: ClassVar[Path | None] = None

    @property
    def identity(self) -> dict[str, Any]:
        """What it was asked for, for the summaries."""
        return {"release": self.release, "category": self.category, "reviews": self.reviews}

    def check(self, layout: Layout) -> None:
        """Raise a ``UserError`` if there is no such category, or a file is missing."""
        self._paths(layout)

    def get(self, layout: Layout, client: HttpClient) -> Mapping[str, Any]:
        """Fetch what is not here yet; returns figures."""
        return get_amazon(layout, self.release, self._paths(layout), mirror=self.mirror, client=client)

    def fetched(self, layout: Layout) -> list[Path]:
        """The files that :meth:`get` makes or finds."""
        paths = self._paths(layout)
        return [paths.reviews, paths.metadata]

    def interaction_file(self, layout: Layout) -> Path:
        """The file that :meth:`events` reads."""
        return self._paths(layout).reviews

    def item_file(self, layout: Layout) -> Path | None:
        """The file that :meth:`items` reads; None if there is no text."""
        return self._paths(layout).metadata

    def events(self, layout: Layout, rejected: Rejected) -> Iterator[Event]:
        """Stream who did what, and when."""
        return amazon_events(self._paths(layout).reviews, self.release, rejected)

    def items(self, layout: Layout, rejected: Rejected) -> Iterator[Item]:
        """Stream the items; nothing if there is no text."""
        read = {2018: read_amazon_2018, 2023: read_amazon_2023}[self.release]
        return read(self._paths(layout).metadata, rejected)

    @property
    def reference(self) -> Sizes | None:
        """Table I's numbers, if this is one of its data sets."""
        return table_one(self.category) if self.release == 2018 else None

    def _paths(self, layout: Layout) -> RawFiles:
        return amazon_paths(layout, self.release, self.category, self.reviews, raw=self.raw)


def _columns(given: object) -> object:
    return parse_columns(given) if isinstance(given, str) else given


class CustomSource(Settings):
    """Files of the user's; properties and methods as those of :class:`AmazonSource`, but there is nothing to get."""

    inter: Path = option(..., "CSV, TSV, Parquet or .inter", metavar="FILE")
    columns: Annotated[Mapping[str, str] | None, BeforeValidator(_columns)] = option(
        None, "(default: recognised)", metavar="user=A,item=B,timestamp=C"
    )
    text: Path | None = option(None, "JSON lines: item_id and any text fields", metavar="FILE")
    images: Path | None = option(None, "ITEM.jpg, ITEM_2.png, ITEM/*.jpg", metavar="DIR")
    keywords: Path | None = option(None, "JSON lines: item_id and words of each picture", metavar="FILE")

    reference: ClassVar[Sizes | None] = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Picture URLs in the items' file are not looked for here: name ``image`` to have them fetched."""
        has = {"text": self.text, "image": self.images or self.keywords}
        return tuple(name for name, path in has.items() if path)

    @property
    def identity(self) -> dict[str, Any]:
        return {"columns": dict(self.columns or {})}

    def check(self, layout: Layout) -> None:
        for what, path in (("interactions", self.inter), ("text", self.text), ("keywords", self.keywords)):
            if path is not None and not path.is_file():
                raise UserError(f"{path} is not a file: give the file of {what}")
            if path is not None and os.path.realpath(path) in map(os.path.realpath, layout.made):
                raise UserError(f"{path} would be replaced by what is made of it: move it, or give another --out")
        if self.images is not None and not self.images.is_dir():
            raise UserError(f"{self.images} is not a folder: give the folder that holds the pictures")
        if self.images is not None and Path(os.path.realpath(layout.root)).is_relative_to(
            os.path.realpath(self.images)
        ):
            raise UserError(f"--out {layout.root} lies inside --images {self.images}: give a folder beside it")

    def interaction_file(self, layout: Layout) -> Path:
        return self.inter

    def item_file(self, layout: Layout) -> Path | None:
        return self.text

    def events(self, layout: Layout, rejected: Rejected) -> Iterator[Event]:
        return table_events(self.inter, rejected, self.columns)

    def items(self, layout: Layout, rejected: Rejected) -> Iterator[Item]:
        return read_custom(self.text, rejected) if self.text else iter(())


Source = AmazonSource | CustomSource
