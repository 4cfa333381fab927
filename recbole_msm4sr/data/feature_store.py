"""Ragged item features on disk: any number of vectors per item, without padding, memory-mapped.

A store is a folder, one per modality::

    manifest.json   format_version, dim, dtype, encoder, revision, options, n_items, n_rows, checksums
    items.txt       one item token a line
    offsets.npy     int64 [n_items + 1]; rows offsets[i]:offsets[i + 1] belong to item i
    values.npy      float16 [n_rows, dim]

An item may have 0 rows: it is known, but lacks this modality.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recbole_msm4sr.core.done import key_of
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import atomic_folder, sha256_of_file
from recbole_msm4sr.data.feature_files import (
    DATA_FILES,
    FORMAT_VERSION,
    ITEMS,
    MANIFEST,
    OFFSETS,
    VALUES,
    check_tokens,
    read_files,
    require,
    stream_values,
    write_tokens,
)
from recbole_msm4sr.data.sequences import ranges

_VERIFY_BLOCK = 1 << 22  # values checked at a time: 8 MiB of float16


class FeatureStore:
    """One modality's vectors for a set of items. Make one with :meth:`write` or :meth:`open`.

    Attributes:
        path: the folder.
        manifest: the parsed ``manifest.json``.
        item_tokens: ``list[str]``, in the order of the rows.
        offsets: int64 ``[n_items + 1]``.
        values: float16 ``[n_rows, dim]``, memory-mapped, read-only.
    """

    def __init__(
        self,
        path: Path,
        manifest: dict[str, Any],
        item_tokens: list[str],
        offsets: npt.NDArray[np.int64],
        values: npt.NDArray[np.float16],
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.item_tokens = item_tokens
        self.offsets = offsets
        self.values = values
        self._position = {token: position for position, token in enumerate(item_tokens)}

    @classmethod
    def write(
        cls,
        path: str | os.PathLike[str],
        item_tokens: Sequence[str],
        rows: Iterable[npt.NDArray[Any]],
        *,
        encoder: str,
        revision: str | None = None,
        options: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> FeatureStore:
        """Write a store and open it. The folder appears whole or not at all; a failure leaves an earlier one as it was.

        Args:
            path: the folder to make, ``dataset/<name>/features/<modality>``.
            item_tokens: the items, as in the ``.inter`` file.
            rows: one array of numbers ``[r_i, dim]`` per token, in the same order; read once, one at a time.
                ``[0, dim]`` marks an item without this modality. Rows keep their order.
            encoder: name of what made the vectors.
            revision: the encoder's version, if it has one.
            options: how the inputs were prepared; must fit into JSON.
            overwrite: replace a store that is there already.

        Raises:
            UserError: the folder exists (or, with ``overwrite``, holds anything but a store), tokens are empty,
                duplicate or hold a tab or line break, or rows do not fit (see ``feature_files.stream_values``).
            OSError: the disk is full or cannot be written.
        """
        target = Path(path)
        if overwrite:
            _refuse_other_contents(target)
        tokens = check_tokens(item_tokens)
        with atomic_folder(target, overwrite=overwrite) as folder:
            offsets, dim = stream_values(folder / VALUES, tokens, rows)
            np.save(folder / OFFSETS, offsets.astype("<i8"))
            write_tokens(folder / ITEMS, tokens)
            manifest = {
                "format_version": FORMAT_VERSION,
                "dim": dim,
                "dtype": "float16",
                "encoder": encoder,
                "revision": revision,
                "options": dict(options or {}),
                "n_items": len(tokens),
                "n_rows": int(offsets[-1]),
                "checksums": {name: sha256_of_file(folder / name) for name in DATA_FILES},
            }
            text = json.dumps(manifest, indent=2, ensure_ascii=False)
            (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        return cls.open(target)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> FeatureStore:
        """Open a store. Shapes and counts are checked, contents are not: see :meth:`check_checksums`.

        Raises:
            UserError: the folder is not a store, is of an unknown version, or its files are missing, truncated or do
                not fit each other.
        """
        folder = Path(path)
        return cls(folder, *read_files(folder))

    def __reduce__(self) -> tuple[Callable[..., FeatureStore], tuple[Path]]:
        """Copy and pickle by path: worker processes map the same file instead of receiving its contents."""
        return FeatureStore.open, (self.path,)

    def __contains__(self, token: object) -> bool:
        """Whether the store knows the item, even if it has 0 rows."""
        return token in self._position

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.values.shape[1])

    @property
    def n_items(self) -> int:
        """Number of items, those with 0 rows included."""
        return len(self.item_tokens)

    @property
    def n_rows(self) -> int:
        """Number of vectors of all items."""
        return int(self.values.shape[0])

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of what the store holds (tokens, offsets, values, dim), wherever it lies."""
        identity = {"checksums": {name: self.manifest["checksums"][name] for name in DATA_FILES}, "dim": self.dim}
        return key_of(identity)

    def rows_of(self, token: str) -> npt.NDArray[np.float16]:
        """The item's vectors, float16 ``[r, dim]``, a view into the file.

        Raises:
            UserError: the store lacks the item.
        """
        if token not in self._position:
            raise UserError(f"feature store {self.path} lacks item {token!r}: import features that cover it")
        position = self._position[token]
        return self.values[self.offsets[position] : self.offsets[position + 1]]

    def select(
        self, tokens: Sequence[str] | npt.NDArray[np.str_], *, allow_missing: bool = False
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where the vectors of ``tokens`` lie, in the order asked.

        Args:
            tokens: item tokens; repeats are allowed.
            allow_missing: give items that the store lacks 0 rows instead of raising.

        Returns:
            ``offsets`` int64 ``[len(tokens) + 1]`` and ``row_index`` int64 ``[offsets[-1]]``: the vectors of
            ``tokens[i]`` are ``values[row_index[offsets[i]:offsets[i + 1]]]``.

        Raises:
            UserError: the store lacks some of the tokens and ``allow_missing`` is false.
        """
        position = np.fromiter((self._position.get(token, -1) for token in tokens), dtype=np.int64, count=len(tokens))
        absent = position < 0
        if absent.any() and not allow_missing:
            names = ", ".join(str(tokens[i]) for i in np.flatnonzero(absent)[:3])
            raise UserError(
                f"feature store {self.path} lacks {absent.sum()} of {len(tokens)} items ({names}"
                f"{', ...' if absent.sum() > 3 else ''}): set allow_missing_features: true to treat them as items "
                "without this modality, or import features that cover them"
            )
        start = self.offsets[position]  # no meaning where absent: those repeat 0 times below
        count = np.where(absent, 0, self.offsets[position + 1] - start)
        offsets = np.zeros(len(tokens) + 1, dtype=np.int64)
        np.cumsum(count, out=offsets[1:])
        return offsets, ranges(start, count)

    def check_checksums(self) -> None:
        """Read all files: each must be, byte for byte, what was written.

        Raises:
            UserError: names the file that changed.
        """
        for name in DATA_FILES:
            intact = sha256_of_file(self.path / name) == self.manifest["checksums"][name]
            require(intact, self.path, f"{name} has changed since it was written (its checksum differs)")

    def verify(self) -> None:
        """Read everything: checksums must match the manifest and every value must be finite.

        Raises:
            UserError: names the file that changed, or the item with a NaN or infinite value.
        """
        self.check_checksums()
        step = max(1, _VERIFY_BLOCK // self.dim)
        for first in range(0, self.n_rows, step):
            finite = np.isfinite(self.values[first : first + step]).all(axis=1)  # [block]
            if not finite.all():
                row = first + int(np.argmin(finite))
                token = self.item_tokens[int(np.searchsorted(self.offsets, row, side="right")) - 1]
                require(False, self.path, f"item {token!r} has a NaN or infinite value in row {row} of {VALUES}")


def _refuse_other_contents(folder: Path) -> None:
    """Overwriting deletes the whole folder, so it must be a store's and not, say, the data set's."""
    if folder.is_dir():
        others = sorted(set(os.listdir(folder)) - {MANIFEST, *DATA_FILES})
        if others:
            raise UserError(f"{folder} holds {others[0]}, which is not part of a feature store: name another folder")
    elif folder.exists():
        raise UserError(f"{folder} is a file: name a folder for the feature store")
