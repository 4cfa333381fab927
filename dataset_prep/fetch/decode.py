"""Decode pictures of unknown origin: what may be one, how large it may be, and how all kinds become RGB."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

# Formats by content, whatever a file or URL is called. Pillow's other readers never see a byte from outside.
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp", "BMP": ".bmp"}
_NAMES = {"MPO": "JPEG"}  # several JPEGs in one file, as some cameras write; the first one is the picture
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

TOO_LARGE = "too large"
TOO_MANY_PIXELS = "too many pixels"
TOO_SMALL = "too small"
TOO_NARROW = "too narrow"
NO_PICTURE = "not a JPEG, PNG, GIF, WebP or BMP picture"
UNDECODABLE = "cannot be decoded"
LIMIT_REASONS = frozenset((TOO_LARGE, TOO_MANY_PIXELS, TOO_SMALL, TOO_NARROW))


class BadPicture(Exception):
    """Bytes that are no usable picture: ``reason`` is one of a few fixed texts, ``detail`` is about this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class PictureLimits:
    """What is taken for a picture.

    Attributes:
        max_bytes: size of the file.
        max_pixels: width times height as the header states it; checked before anything is decoded.
        min_side: the shorter side in pixels. Shops answer with 1 x 1 pixels where they have no picture.
        max_aspect: longer side to shorter side. Encoders scale the shorter side up to some 224 pixels, which makes
            gigabytes of a long thread.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 64_000_000
    min_side: int = 8
    max_aspect: float = 1000.0

    def check(self, n_bytes: int, width: int, height: int) -> None:
        """Raise BadPicture if a picture of this size is outside the limits."""
        if n_bytes > self.max_bytes:
            raise BadPicture(TOO_LARGE, f"{n_bytes:,} bytes, the limit is {self.max_bytes:,}")
        if width * height > self.max_pixels:
            raise BadPicture(TOO_MANY_PIXELS, f"{width} x {height}, the limit is {self.max_pixels:,} pixels")
        if min(width, height) < self.min_side:
            raise BadPicture(TOO_SMALL, f"{width} x {height}, the least side is {self.min_side}")
        if max(width, height) > self.max_aspect * min(width, height):
            raise BadPicture(TOO_NARROW, f"{width} x {height}, the limit is {self.max_aspect:g} : 1")


@dataclass(frozen=True)
class PictureInfo:
    """What a checked picture is: its format, ``JPEG`` for one, and its size in pixels as it is stored."""

    format: str
    width: int
    height: int

    @property
    def suffix(self) -> str:
        """The file name's ending that goes with the format: ``.jpg``."""
        return _SUFFIXES[self.format]


def check_picture(body: bytes, limits: PictureLimits) -> PictureInfo:
    """Decode a picture as a whole, as :func:`decode` will.

    Thread-safe: it looks at the header's size itself and leaves Pillow's settings and Python's warnings alone.

    Raises:
        BadPicture: it is no picture, is damaged or cut off, or is outside the limits.
    """
    picture = _open(io.BytesIO(body))
    limits.check(len(body), picture.width, picture.height)
    assert picture.format is not None  # set by every one of Pillow's readers
    info = PictureInfo(_NAMES.get(picture.format, picture.format), picture.width, picture.height)
    _decode(picture)
    return info


def decode(body: bytes) -> Image.Image:
    """Decode a picture to RGB, 8 bits a channel: upright by its EXIF data, on white where it is transparent.

    Of an animated picture it is the first frame. 16-bit grey is scaled to 8 bits. Thread-safe.

    Raises:
        BadPicture: it cannot be decoded.
    """
    return _decode(_open(io.BytesIO(body)))


def _open(file: io.BytesIO) -> Image.Image:
    """Read the header."""
    with _bad_if_raised():
        try:
            return Image.open(file, formats=tuple(_SUFFIXES))
        except Image.UnidentifiedImageError:
            raise BadPicture(NO_PICTURE, f"begins with {file.getvalue()[:12]!r}") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise BadPicture(TOO_MANY_PIXELS, str(error)) from error


def _decode(picture: Image.Image) -> Image.Image:
    """Decode the whole picture to upright RGB."""
    with _bad_if_raised():
        picture.load()
        turn = _TURNS.get(_orientation(picture))
        picture = _to_rgb(picture)
        return picture if turn is None else picture.transpose(turn)


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1, upright, where there is none or the EXIF data is damaged, as browsers have it."""
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # of any type, as below; it does not harm the picture itself
        return 1


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        # Pillow would cut off at 255 what goes up to 65,535.
        return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


@contextmanager
def _bad_if_raised() -> Iterator[None]:
    """Blame the picture for whatever Pillow stumbles over: its readers raise errors of many types."""
    try:
        yield
    except (BadPicture, MemoryError):
        raise
    except Exception as error:
        raise BadPicture(UNDECODABLE, f"{type(error).__name__}: {error}".splitlines()[0]) from error
