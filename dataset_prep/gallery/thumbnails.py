"""Pictures -> small data URIs that a page can hold."""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dataset_prep.fetch.decode import BadPicture, decode

_QUALITY = 75  # of WebP: a poster at 160 pixels has 5 kB


@dataclass(frozen=True)
class Thumbnail:
    """A ``data:`` URI and the size in pixels."""

    uri: str
    width: int
    height: int


@dataclass
class Thumbnails:
    """Makes thumbnails of the files below ``folder``, at most ``size`` pixels wide and high; counts what it cannot."""

    folder: Path
    size: int
    made: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    def of(self, name: str) -> Thumbnail | None:
        """The thumbnail of ``folder/name``, the first frame of an animation; None if there is none to make."""
        try:
            path = (self.folder / name).resolve()
            if not path.is_relative_to(self.folder.resolve()):
                raise BadPicture("outside the folder of pictures")
            thumbnail = _encode(path, self.size)
        except BadPicture as error:
            self.failed[error.reason] += 1
        except FileNotFoundError:
            self.failed["no such file"] += 1
        except (OSError, ValueError):  # a folder, no right to read, a name that no file can have
            self.failed["cannot be read"] += 1
        else:
            self.made += 1
            return thumbnail
        return None


def _encode(path: Path, size: int) -> Thumbnail:
    picture = decode(path.read_bytes())
    picture.thumbnail((size, size))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY)
    return Thumbnail(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", *picture.size)
