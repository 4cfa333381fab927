"""Long work cut into shards: every finished shard is a file, so an interrupted step goes on where it stopped.

Shards are ranges of items of one size. Where they are cut depends on the number of items alone, never on how many
processes work on them; under torchrun the ranks take them from one list (``core.distributed.claims``). So with any
number of processes, and after any number of interruptions, the files are the same::

    shards = Shards(layout.shards("words"), {"clip": ..., "pictures": ...}, n_items=n, shard_size=4096, suffix=".npy")
    shards.run(compute, unit="picture", description="describing pictures")  # on all ranks
    once(join)  # on rank 0: reads `for items, path in shards`, writes the result, shards.discard()
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dataset_prep.progress import progress_bar
from recbole_msm4sr.core.distributed import SharedCount, barrier, claims, once, rank
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_file

logger = logging.getLogger(__name__)

_KEY_LENGTH = 16  # hex digits of the key that name the folder
# Shared folders show a file to other hosts with a delay: NFS keeps what it knows of a folder for up to a minute.
_VISIBLE_WITHIN = 120.0  # seconds
_POLL = 1.0  # seconds


class Shards:
    """The finished shards of one piece of work: ``folder/<key>/00000007.npy`` and so on.

    The key is a digest of ``settings``, so shards of other settings or inputs are never mixed in: they lie in another
    folder, which is deleted when :meth:`run` begins.

    Args:
        folder: of the step (``Layout.shards``), shared by all hosts.
        settings: all that the shards' contents depend on, digests of the inputs included; must fit into JSON.
        n_items: number of items in all; item numbers are from 0.
        shard_size: items a shard. Every shard but the last has as many.
        suffix: of the shards' files, ``.npy`` for example.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        settings: Mapping[str, Any],
        *,
        n_items: int,
        shard_size: int,
        suffix: str,
    ) -> None:
        if shard_size < 1:
            raise UserError(f"a shard has {shard_size} items: it must have 1 or more")
        self.n_items, self.shard_size, self.suffix = n_items, shard_size, suffix
        self.folder = Path(folder)
        self.own_folder = self.folder / key_of({**settings, "n_items": n_items, "shard_size": shard_size})
        self._bar: tqdm | None = None

    def __len__(self) -> int:
        """Number of shards."""
        return -(-self.n_items // self.shard_size)

    def items(self, number: int) -> range:
        """The items of a shard."""
        return range(number * self.shard_size, min((number + 1) * self.shard_size, self.n_items))

    def path(self, number: int) -> Path:
        """The file of a shard, whether it is there or not."""
        return self.own_folder / f"{number:08d}{self.suffix}"

    def __iter__(self) -> Iterator[tuple[range, Path]]:
        """Items and file of every shard, in order."""
        return ((self.items(number), self.path(number)) for number in range(len(self)))

    def run(self, compute: Callable[[range, Path], None], *, unit: str, description: str) -> None:
        """Compute the shards that are not there yet, on all ranks; when it returns, all of them are there.

        Args:
            compute: ``compute(items, path)`` writes the shard of ``items`` to ``path``, a temporary file that is
                renamed when it returns. What it writes must depend on the items and the settings alone.
                (``numpy.save`` adds a suffix to a path: give it an open file.) It may call :meth:`advance`.
            unit: what an item is, ``picture`` for example.
            description: what the progress bar says.

        Raises:
            UserError: a shard of another rank does not turn up: the folder is not shared.
        """
        n_done = once(self._begin)
        if n_done:
            logger.info("%s: %d of %d shards are there already", description, n_done, len(self))
        count = SharedCount()
        with progress_bar(self.n_items, unit, description, disable=rank() != 0) as bar:
            self._bar = bar
            for number in claims(len(self)):
                path = self.path(number)
                if not path.exists():
                    with atomic_file(path) as temporary:
                        compute(self.items(number), temporary)
                bar.update(count.add(len(self.items(number))) - bar.n)
            barrier()
            bar.update(self.n_items - bar.n)
        for _, path in self:
            wait_until_visible(path)
        barrier()  # before the first rank may delete what another still looks for

    def advance(self, amount: int) -> None:
        """Move the bar within a shard: ``amount`` more of its items are done. For what computes a shard for minutes."""
        if self._bar is None:
            raise RuntimeError("advance() is for what run() has called")
        self._bar.update(amount)

    def discard(self) -> None:
        """Delete the step's folder: its shards have been joined. Rank 0 alone does, and the others do not wait."""
        if rank() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _begin(self) -> int:
        """Delete what is of no use any more; returns how many shards are there already."""
        self.own_folder.mkdir(parents=True, exist_ok=True)
        for stale in sorted(self.folder.iterdir()):
            if stale != self.own_folder:
                logger.info("%s: settings or inputs have changed: deleting the finished shards of before", self.folder)
                shutil.rmtree(stale)
        for left_over in self.own_folder.glob(".*.tmp"):  # of a process that was killed
            left_over.unlink()
        return sum(path.exists() for _, path in self)


def wait_until_visible(path: Path) -> None:
    """Wait for what another process has finished on a shared folder, a file or a folder, to be seen here.

    Raises:
        UserError: it does not turn up: the folder is not shared.
    """
    give_up = time.monotonic() + _VISIBLE_WITHIN
    while not path.exists():
        if time.monotonic() > give_up:
            raise UserError(
                f"{path} was finished by another process and is not to be seen here: all hosts must share it"
            )
        time.sleep(_POLL)


def key_of(settings: Mapping[str, Any]) -> str:
    """A digest of settings: the same for equal ones, whatever the order of their names."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]
