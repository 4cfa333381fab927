"""A row of numbers for every distinct picture of a data set: computed in shards, read back by the picture's name."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dataset_prep.encode.picture_encoder import PictureEncoder
from dataset_prep.encode.shards import ShardedRows
from dataset_prep.fetch.decode import BadPicture, decode
from dataset_prep.layout import Layout
from dataset_prep.readers.jsonl import is_list_of_text, read_records
from dataset_prep.readers.rejected import Rejected
from recbole_msm4sr.core.errors import UserError

logger = logging.getLogger(__name__)

#: Pictures a shard: a second or two on a GPU; minutes on a CPU, where a large CLIP takes seconds a picture.
SHARD_SIZE = 512

T = TypeVar("T")


class PictureRows:
    """Rows ``[width]``, one a distinct picture; files are named by their content, so equal pictures are one file.

    Args:
        layout: of the data set; ``layout.pictures`` is there.
        work: names the folder of the shards.
        settings: what the rows depend on, besides the pictures.
        lacking: the row ``[width]`` of a picture that cannot be decoded; its first number is in no other row.
        batch_size: pictures at a time. The rows' last digits depend on it.
        shard_size: pictures a shard.

    Attributes:
        numbers: the files of all items -> their number, in the order in which they first occur.

    Raises:
        UserError: no item has a picture, or ``pictures.jsonl`` cannot be used.
    """

    def __init__(
        self,
        layout: Layout,
        work: str,
        settings: Mapping[str, Any],
        *,
        lacking: NDArray[Any],
        batch_size: int,
        shard_size: int = SHARD_SIZE,
    ) -> None:
        self.numbers = _distinct_pictures(layout)
        self._folder = layout.picture_files
        self._lacking_row, self._batch_size = lacking, batch_size
        self._rows = ShardedRows(
            layout.shards(work),
            {**settings, "pictures": list(self.numbers), "batch_size": batch_size},
            n_rows=len(self.numbers),
            shard_size=shard_size,
        )

    def compute(
        self, encoder: PictureEncoder, rows_of: Callable[[Tensor], NDArray[Any]], *, workers: int, description: str
    ) -> None:
        """Compute the rows that are not there yet, on all processes. When it returns, all of them can be read.

        Args:
            rows_of: the encoder's vectors ``[b, dim]`` -> rows ``[b, width]``.
            workers: threads that decode, ahead of the model; Pillow and numpy let others run while they work.
        """
        files = [self._folder / name for name in self.numbers]
        pool = ThreadPoolExecutor(workers, thread_name_prefix="picture")

        def blocks(inputs: range) -> Iterator[NDArray[Any]]:
            read = pool.map(functools.partial(_read, encoder), files[inputs.start : inputs.stop])
            for batch in _batched(read, self._batch_size):
                block = np.tile(self._lacking_row, (len(batch), 1))
                decoded = {place: pixels for place, pixels in enumerate(batch) if pixels is not None}
                if decoded:
                    block[list(decoded)] = rows_of(encoder.encode(np.stack(list(decoded.values()))))
                yield block

        try:
            self._rows.compute(blocks, unit="picture", description=description)
        finally:
            pool.shutdown(cancel_futures=True)

    def of(self, name: str) -> NDArray[Any] | None:
        """A picture's row ``[width]``; None if it could not be decoded."""
        number = self.numbers[name]
        return None if number in self._lacking else self._rows.row(number)

    def of_item(self, names: Sequence[str]) -> NDArray[Any]:
        """The rows of an item's pictures that could be decoded, ``[r, width]``."""
        found = [row for name in names if (row := self.of(name)) is not None]
        return np.stack(found) if found else np.empty((0, len(self._lacking_row)), self._lacking_row.dtype)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The rows of the pictures that could be decoded, ``[n, width]``, a shard at a time."""
        return (rows[~self._is_lacking(rows)] for rows in self._rows.shards())

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
        if rejected.total:
            logger.warning(rejected.describe(len(self.numbers), "pictures"))
        return rejected

    def discard(self) -> None:
        """Delete the shards: what they hold has been written where it belongs."""
        self._rows.discard()

    @functools.cached_property
    def _lacking(self) -> frozenset[int]:
        """Numbers of the pictures that could not be decoded."""
        lacking = np.concatenate([self._is_lacking(rows) for rows in self._rows.shards()])
        return frozenset(np.flatnonzero(lacking).tolist())

    def _is_lacking(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        mark = self._lacking_row[0]
        return np.isnan(rows[:, 0]) if np.isnan(mark) else rows[:, 0] == mark


def read_pictures(layout: Layout) -> Iterator[tuple[str, list[str]]]:
    """Yield ``(item_id, pictures)`` in the file's order; pictures are paths below ``layout.picture_files``.

    Raises:
        UserError: as ``readers.jsonl.read_records``, or ``pictures`` is not a list of such paths.
    """
    for where, item_id, record in read_records(layout.pictures):
        pictures = record.get("pictures")
        if not is_list_of_text(pictures) or not all(_is_below(name) for name in pictures or ()):
            raise UserError(f'{where}: "pictures" must be a list of paths below {layout.picture_files}')
        yield item_id, list(pictures or ())


def _distinct_pictures(layout: Layout) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for _, pictures in read_pictures(layout):
        for name in pictures:
            numbers.setdefault(name, len(numbers))
    if not numbers:
        raise UserError(
            f"no item in {layout.pictures} has a picture: get pictures, or leave image out of the modalities"
        )
    return numbers


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def _read(encoder: PictureEncoder, file: Path) -> NDArray[np.uint8] | None:
    """The pixels of a picture; None if it is missing or cannot be decoded."""
    try:
        return encoder.pixels(decode(file.read_bytes()))
    # Any other error of the file system may pass: the step ends, and is resumed.
    except (BadPicture, FileNotFoundError) as error:
        logger.debug("%s is left out: %s", file, error)
        return None


def _batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(values)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
