"""Where everything of a data set that is being prepared lies: one place for all the names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from recbole_msm4sr.core.errors import UserError


@dataclass(frozen=True)
class Layout:
    """The folder ``dataset/<name>`` and the data set's name; what training does not read lies in ``prep``."""

    root: Path
    name: str

    @classmethod
    def of(cls, out: str | os.PathLike[str]) -> Layout:
        """The layout of ``out``, whose last part is the name; absolute, whatever the current folder becomes.

        Raises:
            UserError: the last part can be no data set's name.
        """
        root = Path(out).absolute()
        if not os.fspath(out) or root.name in ("", "..") or not root.name.isprintable():
            raise UserError(
                f"{os.fspath(out)!r} is not a data set's folder: give one with a name, such as dataset/mine"
            )
        return cls(root, root.name)

    @property
    def interactions(self) -> Path:
        """RecBole's atomic file of interactions."""
        return self.root / f"{self.name}.inter"

    @property
    def items(self) -> Path:
        """RecBole's atomic file of item attributes."""
        return self.root / f"{self.name}.item"

    @property
    def sentences(self) -> Path:
        """``text.jsonl``: ``{"item_id": str, "sentences": [str, ...]}`` a line."""
        return self.root / "text.jsonl"

    @property
    def keywords(self) -> Path:
        """``image_keywords.jsonl``: ``{"item_id": str, "keywords": [[str, ...], ...]}`` a line, a list a picture."""
        return self.root / "image_keywords.jsonl"

    @property
    def made(self) -> tuple[Path, ...]:
        """The files of the data set itself that the steps write."""
        return self.interactions, self.items, self.sentences, self.keywords

    def features(self, modality: str) -> Path:
        """The feature store of ``text`` or ``image``."""
        return self.root / "features" / modality

    @property
    def prep(self) -> Path:
        """The steps' own files: deleting the folder loses their progress, and nothing that training needs."""
        return self.root / "prep"

    @property
    def is_prepared(self) -> bool:
        """Whether steps have been at work here; ``encode`` alone leaves nothing in ``prep`` but shards, if killed."""
        return self.prep.is_dir() and [path.name for path in self.prep.iterdir()] != ["shards"]

    @property
    def lock(self) -> Path:
        """Held by the one command that writes the data set."""
        return self.root / ".lock"

    @property
    def raw(self) -> Path:
        """Downloaded files, as they came."""
        return self.prep / "raw"

    @property
    def picture_sources(self) -> Path:
        """``picture_sources.jsonl``: ``{"item_id": str, "pictures": [[str, ...], ...]}`` a line.

        Every inner list is one picture: the URLs or files to take it from, best resolution first.
        """
        return self.prep / "picture_sources.jsonl"

    @property
    def picture_files(self) -> Path:
        """The folder of pictures, named by the digest of their content: ``ab/abcdef....jpg``."""
        return self.prep / "pictures"

    @property
    def pictures(self) -> Path:
        """``pictures.jsonl``: ``{"item_id": str, "pictures": [str, ...]}`` a line, paths in :attr:`picture_files`."""
        return self.prep / "pictures.jsonl"

    @property
    def ledger(self) -> Path:
        """SQLite data base: what became of every URL and file that was asked for a picture."""
        return self.prep / "pictures.sqlite"

    @property
    def dictionary(self) -> Path:
        """The word dictionary D as it was used, one word a line."""
        return self.prep / "words.txt"

    def shards(self, step: str) -> Path:
        """The folder of a step's finished shards; it is deleted once they are joined."""
        return self.prep / "shards" / step

    def summary(self, step: str) -> Path:
        """What a finished step was asked for, what it read and wrote, and its figures."""
        return self.prep / f"{step}.json"
