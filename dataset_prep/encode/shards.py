"""Long work cut into shards: every finished shard is a file, so an interrupted step goes on where it stopped.

Shards are ranges of inputs of one size. Where they are cut depends on the number of inputs alone, never on how many
processes work on them; under torchrun the processes take them from one list (``core.distributed.claims``). So with any
number of processes, and after any number of interruptions, the files are the same.
"""

from __future__ import annotations

import functools
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_prep.progress import progress_bar
from recbole_msm4sr.core.distributed import SharedCount, barrier, claims, is_main, once
from recbole_msm4sr.core.done import key_of
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_file, remove_left_overs

logger = logging.getLogger(__name__)

_KEY_LENGTH = 16  # hex digits of the key that name the folder
_MAPPED = 256  # shards that are open at a time: inputs are numbered as they occur, so neighbours share one
# Shared folders show a file to other hosts with a delay: NFS keeps what it knows of a folder for up to a minute.
_VISIBLE_WITHIN = 120.0  # seconds
_POLL = 1.0  # seconds


class ShardedRows:
    """A row of numbers for each of ``n_rows`` numbered inputs: ``folder/<key>/00000007.npy`` and so on.

    The key is made of ``settings``, so shards of other settings or inputs are never mixed in: they lie in another
    folder, which is deleted when :meth:`compute` begins.

    Args:
        folder: of the work (``Layout.shards``), shared by all hosts.
        settings: all that the rows depend on, digests of the inputs included; must fit into JSON.
        n_rows: number of inputs, 1 or more; they are numbered from 0.
        shard_size: inputs a shard. Every shard but the last has as many.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, n_rows: int, shard_size: int) -> None:
        self.n_rows, self.shard_size, self.folder = n_rows, shard_size, folder
        key = key_of({**settings, "n_rows": n_rows, "shard_size": shard_size})
        self.own_folder = folder / key[:_KEY_LENGTH]
        self._mapped = functools.lru_cache(_MAPPED)(self._map)

    def __len__(self) -> int:
        """Number of shards."""
        return -(-self.n_rows // self.shard_size)

    def inputs(self, shard: int) -> range:
        """The inputs of a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.n_rows))

    def path(self, shard: int) -> Path:
        """The file of a shard, whether it is there or not."""
        return self.own_folder / f"{shard:08d}.npy"

    def compute(self, rows_of: Callable[[range], Iterable[NDArray[Any]]], *, unit: str, description: str) -> None:
        """Compute the shards that are not there yet, on all processes; when it returns, all of them are there.

        Args:
            rows_of: the rows of consecutive inputs ``[b_j, width]``, a batch at a time; they must depend on the inputs
                and the settings alone.
            unit: what an input is, ``picture`` for example.
            description: what the progress bar says.

        Raises:
            UserError: another process has read other inputs, or its shard does not turn up: the folder is not shared.
        """
        key, n_done = once(self._begin)
        if key != self.own_folder.name:
            raise UserError(f"the processes do not read the same inputs of {self.folder}: all hosts must share them")
        if n_done:
            logger.info("%s: %d of %d shards are there already", description, n_done, len(self))
        count = SharedCount()
        with progress_bar(self.n_rows, unit, description, disable=not is_main()) as bar:
            for shard in claims(len(self)):
                if not self.path(shard).exists():
                    self._write(shard, rows_of, bar.update)
                bar.update(count.add(len(self.inputs(shard))) - bar.n)
            barrier()
            bar.update(self.n_rows - bar.n)
        for shard in range(len(self)):
            wait_until_visible(self.path(shard))
        barrier()  # before the first process may delete what another still looks for

    def row(self, number: int) -> NDArray[Any]:
        """The row of one input, ``[width]``."""
        shard, place = divmod(number, self.shard_size)
        return self._mapped(shard)[place]

    def shards(self) -> Iterator[NDArray[Any]]:
        """All rows in order, ``[b, width]`` a shard."""
        return (self._map(shard) for shard in range(len(self)))

    def discard(self) -> None:
        """Delete all shards: what they hold has been written where it belongs. The first process alone does."""
        self._mapped.cache_clear()
        if is_main():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self) -> tuple[str, int]:
        """Delete what is of no use any more; the key, and how many shards are there already."""
        self.own_folder.mkdir(parents=True, exist_ok=True)
        remove_left_overs(self.own_folder)
        for other in sorted(self.folder.iterdir()):
            if other != self.own_folder:
                logger.info("%s: settings or inputs have changed: deleting the finished shards of before", self.folder)
                shutil.rmtree(other) if other.is_dir() else other.unlink()
        finished = [shard for shard in range(len(self)) if self.path(shard).exists()]
        damaged = [shard for shard in finished if not self._is_whole(shard)]
        for shard in damaged:
            logger.warning("%s is damaged: it is computed again", self.path(shard))
            self.path(shard).unlink()
        return self.own_folder.name, len(finished) - len(damaged)

    def _write(
        self, shard: int, rows_of: Callable[[range], Iterable[NDArray[Any]]], advance: Callable[[int], object]
    ) -> None:
        blocks = []
        for block in rows_of(self.inputs(shard)):
            blocks.append(block)
            advance(len(block))
        with atomic_file(self.path(shard)) as temporary, open(temporary, "wb") as file:
            np.save(file, np.concatenate(blocks))

    def _is_whole(self, shard: int) -> bool:
        try:
            rows = self._map(shard)
        except (ValueError, EOFError):  # another format; cut short
            return False
        return rows.ndim == 2 and len(rows) == len(self.inputs(shard))

    def _map(self, shard: int) -> NDArray[Any]:
        return np.asarray(np.load(self.path(shard), mmap_mode="r"))


def wait_until_visible(path: Path, within: float = _VISIBLE_WITHIN) -> None:
    """Wait for what another process has finished on a shared folder, a file or a folder, to be seen here.

    Args:
        within: seconds.

    Raises:
        UserError: it does not turn up: the folder is not shared.
    """
    give_up = time.monotonic() + within
    while not path.exists():
        if time.monotonic() > give_up:
            raise UserError(f"{path} was finished by another process and is not seen here: all hosts must share it")
        time.sleep(_POLL)
