"""Generated data sets of a stated size, made once from a seed and kept.

Item popularity follows (rank + 10)^-1 on top of five interactions an item, and histories have five items plus a
log-normal number of others, as 5-core Amazon data have: in Musical Instruments (2018) the most popular 1, 10 and 50 %
of the items have 21, 51 and 85 % of the interactions (here 23, 50 and 79 %), and the 50th, 90th and 99th percentiles of
the history length are 0.8, 1.6 and 3.5 times its mean (here 0.8, 1.7 and 3.8). There is nothing to learn: the next item
does not depend on the history. Vectors are normal, of length about one, as sentence embeddings are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_msm4sr.core.files import atomic_folder
from recbole_msm4sr.data.feature_store import FeatureStore

SPECIFICATION = "generated.json"
_VERSION = 1  # changes when the same numbers would generate other data
_ITEMS_AT_ONCE = 4096
_ROWS_AT_ONCE = 1 << 20
_USER_DIGITS, _ITEM_DIGITS, _TIME_DIGITS = 13, 9, 10


@dataclass(frozen=True)
class DatasetSize:
    """What is generated; the same values give the same bytes.

    Attributes:
        name: the data set's name, and its folder's.
        n_users, n_items, n_interactions: exact; every user and every item occurs.
        rows: modality to the fewest and the most vectors of an item; empty for interactions alone.
        dim: numbers in a vector.
        shortest: fewest items of a history.
        seed: of everything.
    """

    name: str
    n_users: int
    n_items: int
    n_interactions: int
    rows: tuple[tuple[str, int, int], ...] = ()
    dim: int = 768
    shortest: int = 5
    seed: int = 2020

    def __post_init__(self) -> None:
        if self.n_interactions < max(self.n_users * self.shortest, self.n_items):
            raise ValueError(f"{self.name}: {self.n_interactions} interactions are too few for its users and items")


_SENTENCES_AND_PICTURES = (("text", 1, 10), ("image", 0, 6))

# Users, items and interactions of the paper's table I.
PANTRY = DatasetSize("bench-pantry", 13_614, 7_670, 131_311, _SENTENCES_AND_PICTURES)
OFFICE = DatasetSize("bench-office", 68_224, 59_705, 527_209, _SENTENCES_AND_PICTURES)
INTERACTIONS_131K = DatasetSize("bench-131k", 13_614, 7_670, 131_311)
INTERACTIONS_1M = DatasetSize("bench-1m", 120_000, 60_000, 1_000_000)
INTERACTIONS_10M = DatasetSize("bench-10m", 1_000_000, 500_000, 10_000_000)
TINY = DatasetSize("bench-tiny", 60, 50, 480, _SENTENCES_AND_PICTURES, dim=16)


def generate(size: DatasetSize, data_path: Path) -> Path:
    """The folder ``data_path/name`` with the data set, generated unless it is there with the same specification."""
    folder = data_path / size.name
    specification = {"version": _VERSION, **asdict(size), "rows": [list(entry) for entry in size.rows]}
    file = folder / SPECIFICATION
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) == specification:
        return folder
    rng = np.random.default_rng(size.seed)
    with atomic_folder(folder, overwrite=file.is_file()) as temporary:
        write_interactions(temporary / f"{size.name}.inter", size, rng)
        for modality, fewest, most in size.rows:
            write_features(temporary / "features" / modality, size, fewest, most, rng)
        (temporary / SPECIFICATION).write_text(json.dumps(specification, indent=2) + "\n", encoding="utf-8")
    return folder


def history_lengths(size: DatasetSize, rng: np.random.Generator) -> NDArray[np.int64]:
    """Items of every user, int64 ``[n_users]``; their sum is ``n_interactions``."""
    extra = size.n_interactions - size.n_users * size.shortest
    weight = rng.lognormal(sigma=1.1, size=size.n_users)
    lengths = np.floor(weight / weight.sum() * extra).astype(np.int64)
    lengths[rng.permutation(size.n_users)[: extra - lengths.sum()]] += 1
    return lengths + size.shortest


def draw_items(size: DatasetSize, rng: np.random.Generator) -> NDArray[np.int64]:
    """The item of every interaction, int64 ``[n_interactions]``, in random order; every item occurs."""
    sure = min(5, size.n_interactions // size.n_items)
    cumulative = np.cumsum(1 / (np.arange(size.n_items) + 11))
    drawn = np.searchsorted(
        cumulative, rng.random(size.n_interactions - sure * size.n_items) * cumulative[-1], side="right"
    )
    return rng.permutation(np.concatenate([np.repeat(np.arange(size.n_items), sure), drawn]))


def write_interactions(path: Path, size: DatasetSize, rng: np.random.Generator) -> None:
    """Write the atomic file: tokens as long as Amazon's, Unix times, lines in the order of time."""
    user = rng.permutation(np.repeat(np.arange(size.n_users), history_lengths(size, rng)))
    item = draw_items(size, rng)
    time = np.sort(rng.integers(1_000_000_000, 1_600_000_000, size.n_interactions))
    with open(path, "wb") as file:
        file.write(b"user_id:token\titem_id:token\ttimestamp:float\n")
        for first in range(0, size.n_interactions, _ROWS_AT_ONCE):
            block = slice(first, first + _ROWS_AT_ONCE)
            columns = [
                _column("A", user[block], _USER_DIGITS, "\t"),
                _column("B", item[block], _ITEM_DIGITS, "\t"),
                _column("", time[block], _TIME_DIGITS, "\n"),
            ]
            file.write(np.concatenate(columns, axis=1).tobytes())


def write_features(folder: Path, size: DatasetSize, fewest: int, most: int, rng: np.random.Generator) -> None:
    """Write a modality's feature store; an item has a uniform number of vectors between ``fewest`` and ``most``."""
    tokens = [f"B{item:0{_ITEM_DIGITS}d}" for item in range(size.n_items)]
    counts = rng.integers(fewest, most + 1, size.n_items)
    FeatureStore.write(
        folder, tokens, _vectors(counts, size.dim, rng), encoder="generated", options={"seed": size.seed}
    )


def _vectors(counts: NDArray[np.int64], dim: int, rng: np.random.Generator) -> Iterator[NDArray[np.float16]]:
    for first in range(0, len(counts), _ITEMS_AT_ONCE):
        block = counts[first : first + _ITEMS_AT_ONCE]
        rows = rng.standard_normal((int(block.sum()), dim), dtype=np.float32)
        rows *= dim**-0.5
        yield from np.split(rows.astype(np.float16), np.cumsum(block)[:-1])


def _column(prefix: str, values: NDArray[np.int64], n_digits: int, suffix: str) -> NDArray[np.uint8]:
    """Text of every value, padded with zeros; uint8 ``[n, width]``."""
    text = np.empty((len(values), len(prefix) + n_digits + len(suffix)), dtype=np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix.encode(), dtype=np.uint8)
    rest = values.copy()
    for column in reversed(range(len(prefix), len(prefix) + n_digits)):
        rest, digit = np.divmod(rest, 10)
        text[:, column] = digit + ord("0")
    text[:, len(prefix) + n_digits :] = np.frombuffer(suffix.encode(), dtype=np.uint8)
    return text
