"""Pictures of every kind that the web holds: what is taken, how it looks as RGB, and what is refused."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataset_prep.fetch.decode import BadPicture, check_picture, decode

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def halves(left: tuple[int, ...], right: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    """32 x 16 pixels in two colours."""
    picture = Image.new(mode, (32, 16), left)
    picture.paste(right, (16, 0, 32, 16))
    return picture


def pixels(body: bytes) -> np.ndarray:
    check_picture(body)
    picture = decode(body)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def refused(body: bytes) -> BadPicture:
    with pytest.raises(BadPicture) as caught:
        check_picture(body)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("GIF", ".gif"), ("WEBP", ".webp"), ("BMP", ".bmp")]
)
def test_five_formats_are_told_by_their_content(kind: str, suffix: str) -> None:
    body = encoded(noise(), kind)
    assert check_picture(body) == suffix
    assert decode(body).size == (40, 30)


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO", "TGA", "PDF"])
def test_other_formats_never_reach_their_readers(kind: str) -> None:
    assert refused(encoded(noise(), kind)).reason == "not a JPEG, PNG, GIF, WebP or BMP picture"


def test_a_page_is_not_a_picture_and_the_message_shows_its_beginning() -> None:
    bad = refused(b"<!DOCTYPE html><title>Not found</title>")
    assert (bad.reason, "DOCTYPE" in bad.detail) == ("not a JPEG, PNG, GIF, WebP or BMP picture", True)
    refused(b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_picture_that_was_cut_off_is_refused(kind: str, share: float) -> None:
    body = encoded(noise(), kind)
    assert refused(body[: int(len(body) * share)]).reason == "cannot be decoded"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE, WHITE)]
    body = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **_exact(kind))
    assert np.abs(pixels(body) - RED).max() <= 3


def test_cmyk_keeps_its_colours() -> None:
    body = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")  # no cyan, all magenta and yellow: red
    assert np.abs(pixels(body) - RED).max() <= 4


def test_transparent_pixels_are_white_whatever_lies_below() -> None:
    clear_blue = halves((*RED, 255), (*BLUE, 0), "RGBA")
    for body in (encoded(clear_blue, "PNG"), encoded(clear_blue, "WEBP", lossless=True, exact=True)):
        found = pixels(body)
        assert (found[:, :16] == RED).all()
        assert (found[:, 16:] == WHITE).all()
    half_clear = pixels(encoded(Image.new("LA", (16, 16), (0, 128)), "PNG"))
    assert np.abs(half_clear - 127).max() <= 1


def test_palettes_with_and_without_a_transparent_colour() -> None:
    palette = halves(RED, BLUE).quantize(4)
    blue = palette.getpixel((31, 0))
    for kind in ("GIF", "PNG"):
        assert (pixels(encoded(palette, kind))[:, 16:] == BLUE).all()
        assert (pixels(encoded(palette, kind, transparency=blue))[:, 16:] == WHITE).all()


def test_16_bit_grey_is_scaled_and_not_cut_off() -> None:
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    found = pixels(encoded(Image.fromarray(grey), "PNG"))
    assert (found == (grey // 256)[:, :, None]).all()


def test_one_bit_and_grey_pictures() -> None:
    for mode in ("1", "L"):
        picture = halves(RED, WHITE).convert("L").point(lambda value: 255 * (value > 200)).convert(mode)
        found = pixels(encoded(picture, "PNG"))
        assert (found[:, :16] == 0).all()
        assert (found[:, 16:] == 255).all()


def test_the_camera_s_orientation_is_applied() -> None:
    upright = halves(RED, BLUE)
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }
    for orientation, picture in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("PNG", "JPEG"):
            found = pixels(encoded(picture, kind, exif=exif, **_exact(kind)))
            assert found.shape == (16, 32, 3), orientation
            assert np.abs(found - np.asarray(upright)).max() <= 5, orientation


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_data_does_not_cost_the_picture() -> None:
    body = encoded(noise(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff damaged")
    assert pixels(body).shape == (30, 40, 3)


@pytest.mark.parametrize("size", [(1, 1), (7, 400), (400, 7)])
def test_placeholders_are_too_small(size: tuple[int, int]) -> None:
    assert refused(encoded(Image.new("RGB", size), "GIF")).reason == "too small"


def test_long_pictures_are_taken_and_threads_are_not() -> None:
    assert pixels(encoded(Image.new("RGB", (4000, 10)), "PNG")).shape == (10, 4000, 3)
    assert refused(encoded(Image.new("RGB", (9000, 8)), "PNG")).reason == "too narrow"


def test_a_decompression_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the middle one is between Pillow's limits
        for side in (8_001, 10_000, 50_000):
            bad = refused(_png_claiming(side, side))
            assert bad.reason == "too many pixels"


def test_pillow_s_own_limit_holds_below_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert refused(encoded(noise(), "JPEG")).reason == "too many pixels"


def test_too_many_bytes_are_refused() -> None:
    body = encoded(noise(), "JPEG")
    check_picture(body.ljust(20_000_000, b"\0"))
    assert refused(body.ljust(20_000_001, b"\0")).reason == "too large"


def test_any_damage_ends_as_a_bad_picture() -> None:
    dice = random.Random(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [noise(seed, (24, 24)) for seed in range(2)]
    bodies = [encoded(frames[0], kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP")]
    bodies += [encoded(frames[0], "BMP"), encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])]
    messages = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about damaged EXIF data
        for body in bodies:
            for _ in range(150):
                damaged = bytearray(body)
                for _ in range(dice.randint(1, 6)):
                    damaged[dice.randrange(min(len(damaged), 300))] = dice.randrange(256)
                try:
                    check_picture(bytes(damaged))
                except BadPicture as bad:
                    messages.append(str(bad))
    assert len(messages) > 100
    assert not any("\n" in message for message in messages)


def _exact(kind: str) -> dict[str, Any]:
    return {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})


def _png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header announces a picture of this size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
