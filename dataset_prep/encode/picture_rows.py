"""A row of numbers for every distinct picture of a data set: computed in shards, read back by the picture's name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dataset_prep.encode.item_pictures import distinct_pictures
from dataset_prep.encode.picture_encoder import PictureEncoder
from dataset_prep.encode.picture_reader import PictureReader
from dataset_prep.encode.shards import Shards
from dataset_prep.layout import Layout
from dataset_prep.readers.rejected import Rejected
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import sha256_of_file

#: Pictures a shard: a second or two on a GPU; minutes on a CPU, where a large CLIP takes seconds a picture.
SHARD_SIZE = 512
_MAPPED = 256  # shards that are open at a time: pictures are numbered as they occur, so neighbours share one


class PictureRows:
    """Rows ``[width]``, one a distinct picture.

    A picture that cannot be decoded has a row of ``missing``, a number that no other row holds.

    Args:
        layout: of the data set; ``layout.pictures`` is there.
        step: names the folder of the shards.
        settings: what the rows depend on, besides the pictures.
        width: numbers a row.
        missing: in the rows' own dtype.
        batch_size: pictures at a time. The rows' last digits depend on it.
        shard_size: pictures a shard.

    Raises:
        UserError: no item has a picture, or ``pictures.jsonl`` cannot be used.
    """

    def __init__(
        self,
        layout: Layout,
        step: str,
        settings: Mapping[str, Any],
        *,
        width: int,
        missing: np.generic,
        batch_size: int,
        shard_size: int = SHARD_SIZE,
    ) -> None:
        self.numbers = distinct_pictures(layout)
        self._folder = layout.picture_files
        self._width, self._missing, self._batch_size = width, missing, batch_size
        self._shards = Shards(
            layout.shards(step),
            {**settings, "pictures": sha256_of_file(layout.pictures), "batch_size": batch_size},
            n_items=len(self.numbers),
            shard_size=shard_size,
            suffix=".npy",
        )
        self._open = functools.lru_cache(_MAPPED)(_map)

    def compute(
        self,
        encoder: PictureEncoder,
        rows_of: Callable[[Tensor], NDArray[Any]],
        *,
        workers: int,
        description: str,
    ) -> None:
        """Compute the rows that are not there yet, on all ranks. When it returns, all of them can be read.

        Args:
            rows_of: the encoder's vectors ``[b, dim]`` -> rows ``[b, width]``.
            workers: threads that decode.
        """
        files = [self._folder / name for name in self.numbers]
        with PictureReader(files, encoder.pixels, workers) as reader:

            def compute(numbers: range, path: Path) -> None:
                rows = np.full((len(numbers), self._width), self._missing)
                for places, pixels in reader.batches(numbers, self._batch_size):
                    rows[places] = rows_of(encoder.encode(pixels))
                    self._shards.advance(len(places))
                with open(path, "wb") as file:
                    np.save(file, rows)

            self._shards.run(compute, unit="picture", description=description)

    def of(self, name: str) -> NDArray[Any] | None:
        """A picture's row ``[width]``; None if it could not be decoded."""
        shard, place = divmod(self.numbers[name], self._shards.shard_size)
        return None if self.numbers[name] in self._lacking else self._open(self._shards.path(shard))[place]

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The rows of the pictures that could be decoded, ``[n, width]``, a shard at a time."""
        for _, path in self._shards:
            rows = np.load(path)
            yield rows[~self._is_missing(rows[:, 0])]

    def undecodable(self) -> Rejected:
        """The pictures that could not be decoded.

        Raises:
            UserError: that is all of them. The shards are deleted then, so that the next run tries again.
        """
        rejected = Rejected()
        for name, number in self.numbers.items():
            if number in self._lacking:
                rejected.add(name, "the file is missing or cannot be decoded")
        if rejected.total == len(self.numbers):
            self.discard()
            raise UserError(
                f"none of the {rejected.total} pictures below {self._folder} can be decoded, "
                f"{next(iter(self.numbers))} for one: get the pictures again"
            )
        return rejected

    def discard(self) -> None:
        """Delete the shards: what they hold has been written where it belongs."""
        self._open.cache_clear()
        self._shards.discard()

    @functools.cached_property
    def _lacking(self) -> frozenset[int]:
        """Numbers of the pictures that could not be decoded."""
        lacking = [numbers.start + np.flatnonzero(self._is_missing(_map(path)[:, 0])) for numbers, path in self._shards]
        return frozenset(np.concatenate(lacking).tolist())

    def _is_missing(self, column: NDArray[Any]) -> NDArray[np.bool_]:
        return np.isnan(column) if np.isnan(self._missing) else column == self._missing


def _map(path: Path) -> NDArray[Any]:
    return np.asarray(np.load(path, mmap_mode="r"))
