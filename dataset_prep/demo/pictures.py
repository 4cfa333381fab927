"""The pictures of the demo data set: one coloured, patterned shape on a light ground, drawn with Pillow."""

from __future__ import annotations

import colorsys
import itertools

import numpy as np
from PIL import Image, ImageDraw

from dataset_prep.demo.catalogue import Item

SIZE = 48  # pixels, both ways

_HUES = {
    "red": (0.00, 0.85, 0.80),
    "orange": (0.08, 0.95, 0.95),
    "yellow": (0.15, 0.85, 0.95),
    "green": (0.35, 0.75, 0.60),
    "cyan": (0.50, 0.75, 0.85),
    "blue": (0.62, 0.85, 0.70),
    "purple": (0.77, 0.70, 0.60),
    "pink": (0.92, 0.45, 0.95),
}  # hue, saturation, value


def draw(item: Item, rng: np.random.Generator) -> Image.Image:
    """Draw one RGB picture [48 x 48]; place, size, tint and ground differ from call to call."""
    tint = np.array(_HUES[item.colour]) + rng.uniform((-0.015, -0.1, -0.1), (0.015, 0.05, 0.05))
    red, green, blue = colorsys.hsv_to_rgb(tint[0] % 1.0, min(tint[1], 1.0), min(tint[2], 1.0))
    paint = (round(255 * red), round(255 * green), round(255 * blue))
    ground = int(rng.integers(215, 250))
    radius = int(rng.integers(15, 21))
    x, y = (int(SIZE // 2 + step) for step in rng.integers(-3, 4, size=2))

    picture = Image.new("RGB", (SIZE, SIZE), (ground, ground, ground))
    filling = Image.new("RGB", (SIZE, SIZE), paint)
    _draw_pattern(ImageDraw.Draw(filling), item.pattern, int(rng.integers(0, 8)))
    picture.paste(filling, mask=_silhouette(item.shape, x, y, radius))
    return picture


def _silhouette(shape: str, x: int, y: int, radius: int) -> Image.Image:
    """The shape as a mask, white inside."""
    mask = Image.new("L", (SIZE, SIZE), 0)
    pen = ImageDraw.Draw(mask)
    box = (x - radius, y - radius, x + radius, y + radius)
    corners = {
        "triangle": [(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)],
        "diamond": [(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)],
    }
    if shape in ("circle", "ring"):
        pen.ellipse(box, fill=255)
    elif shape == "square":
        pen.rectangle(box, fill=255)
    elif shape == "cross":
        arm = radius // 3
        pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=255)
        pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=255)
    else:
        pen.polygon(corners[shape], fill=255)
    if shape == "ring":
        inner = radius // 2
        pen.ellipse((x - inner, y - inner, x + inner, y + inner), fill=0)
    return mask


def _draw_pattern(pen: ImageDraw.ImageDraw, pattern: str, phase: int) -> None:
    """Draw a white pattern over the whole picture, shifted by ``phase`` pixels; ``plain`` has none."""
    white = (255, 255, 255)
    steps = range(phase - 8, SIZE, 8)
    if pattern == "striped":
        for step in steps:
            pen.rectangle((0, step, SIZE, step + 2), fill=white)
    elif pattern == "upright":
        for step in steps:
            pen.rectangle((step, 0, step + 2, SIZE), fill=white)
    elif pattern == "dotted":
        for down, across in itertools.product(steps, steps):
            pen.ellipse((across, down, across + 3, down + 3), fill=white)
    elif pattern == "checked":
        for down, across in itertools.product(range(phase - 16, SIZE, 12), repeat=2):
            pen.rectangle((across, down, across + 5, down + 5), fill=white)
            pen.rectangle((across + 6, down + 6, across + 11, down + 11), fill=white)
