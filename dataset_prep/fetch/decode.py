"""Decode pictures of unknown origin: what may be one, how large it may be, and how all kinds become RGB."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from PIL import Image, ImageOps

from dataset_prep.readers.rejected import ReasonError

# Formats by content, whatever a file or URL is called. Pillow's other readers never see a byte from outside.
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp", "BMP": ".bmp"}
_NAMES = {"MPO": "JPEG"}  # several JPEGs in one file, as some cameras write; the first one is the picture

MAX_BYTES = 20_000_000  # of a file
MAX_PIXELS = 64_000_000  # width times height as the header states it
MIN_SIDE = 8  # pixels; shops answer with 1 x 1 where they have no picture
MAX_ASPECT = 1000  # encoders scale the shorter side up to some 224 pixels, which makes gigabytes of a long thread


class BadPicture(ReasonError):
    """Bytes that are not a usable picture."""


def check_picture(body: bytes) -> str:
    """Check that a picture is within the limits, and that its file is whole, without decoding all of it.

    A PNG's checksums are compared. Of a JPEG every eighth pixel is decoded, which reads the whole file. Other formats
    are rare and decoded. Thread-safe.

    Returns:
        The ending of a file name that goes with the format: ``.jpg``.

    Raises:
        BadPicture: it is not a picture, is damaged or cut off, or is outside the limits.
    """
    picture = _open(body)
    kind = _NAMES.get(str(picture.format), str(picture.format))
    with _bad_if_raised():
        if kind == "PNG":
            picture.verify()
        else:
            picture.draft("RGB", (1, 1))  # JPEG alone has drafts
            picture.load()
    return _SUFFIXES[kind]


def decode(body: bytes) -> Image.Image:
    """Decode a picture to RGB, 8 bits a channel: upright by its EXIF data, on white where it is transparent.

    Of an animated picture it is the first frame. 16-bit grey is scaled to 8 bits. Thread-safe.

    Raises:
        BadPicture: it cannot be decoded, or is outside the limits.
    """
    picture = _open(body)
    with _bad_if_raised():
        picture.load()
        with suppress(Exception):  # damaged EXIF data do not harm the picture itself; browsers ignore them, too
            ImageOps.exif_transpose(picture, in_place=True)
        return _to_rgb(picture)


def _open(body: bytes) -> Image.Image:
    """Read the header, and check the size that it states."""
    if len(body) > MAX_BYTES:
        raise BadPicture("too large", f"more than {MAX_BYTES:,} bytes")
    with _bad_if_raised():
        try:
            picture = Image.open(io.BytesIO(body), formats=tuple(_SUFFIXES))
        except Image.UnidentifiedImageError:
            raise BadPicture("not a JPEG, PNG, GIF, WebP or BMP picture", f"begins with {body[:12]!r}") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise BadPicture("too many pixels", str(error)) from error
    size = f"{picture.width} x {picture.height}"
    if picture.width * picture.height > MAX_PIXELS:
        raise BadPicture("too many pixels", f"{size}, the limit is {MAX_PIXELS:,} pixels")
    if min(picture.size) < MIN_SIDE:
        raise BadPicture("too small", f"{size}, each side must have {MIN_SIDE} pixels")
    if max(picture.size) > MAX_ASPECT * min(picture.size):
        raise BadPicture("too narrow", f"{size}, the limit is {MAX_ASPECT} : 1")
    return picture


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
        raise BadPicture("cannot be decoded", f"{type(error).__name__}: {error}".splitlines()[0]) from error
