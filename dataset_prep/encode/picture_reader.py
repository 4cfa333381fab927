"""Decode pictures in threads, ahead of the model that waits for them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dataset_prep.fetch.decode import BadPicture, decode

logger = logging.getLogger(__name__)

WORKERS = 4
_AHEAD = 2  # batches that are decoded while the model is at work on one


class PictureReader:
    """Reads picture files by number, in batches. Use it as a context manager.

    Threads are enough: Pillow and numpy let others run while they decode and scale, and what is left for Python itself
    is some 0.25 ms a picture.

    Args:
        files: the pictures.
        prepare: RGB picture -> uint8 ``[3, height, width]``, of one size for all pictures.
        workers: threads.
    """

    def __init__(
        self, files: Sequence[Path], prepare: Callable[[Image.Image], NDArray[np.uint8]], workers: int = WORKERS
    ) -> None:
        self._files = files
        self._prepare = prepare
        self._pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="picture")

    def __enter__(self) -> PictureReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def batches(self, numbers: range, batch_size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield the pictures ``numbers``, ``batch_size`` at a time, without those that cannot be decoded.

        Yields:
            their places in ``numbers``, int64 ``[b]``, and the pixels, uint8 ``[b, 3, height, width]``; ``b`` is
            ``batch_size`` less those left out, and never 0.
        """
        waiting: deque[tuple[range, list[Future[NDArray[np.uint8] | None]]]] = deque()
        for start in range(0, len(numbers), batch_size):
            places = range(start, min(start + batch_size, len(numbers)))
            waiting.append((places, [self._pool.submit(self._read, numbers[place]) for place in places]))
            if len(waiting) > _AHEAD:
                yield from _gather(*waiting.popleft())
        while waiting:
            yield from _gather(*waiting.popleft())

    def _read(self, number: int) -> NDArray[np.uint8] | None:
        try:
            return self._prepare(decode(self._files[number].read_bytes()))
        # Any other error of the file system may pass: the step ends, and is resumed.
        except (BadPicture, FileNotFoundError) as error:
            logger.debug("%s is left out: %s", self._files[number], error)
            return None


def _gather(
    places: range, readings: Sequence[Future[NDArray[np.uint8] | None]]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    read = [
        (place, pixels)
        for place, reading in zip(places, readings, strict=True)
        if (pixels := reading.result()) is not None
    ]
    if read:
        yield np.array([place for place, _ in read], dtype=np.int64), np.stack([pixels for _, pixels in read])
