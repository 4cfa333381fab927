"""The users of the demo data set: who takes which item after which, and why.

The next item depends on what the previous one *is* (its kind's complements; the same theme, material, colour or
pattern), on the user's lasting taste, and on the item's popularity; some items are new to the shop. A model that only
knows item numbers has to find out from few interactions what each item is; a model that sees the content need not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataset_prep.demo.catalogue import COLOURS, KINDS, MATERIALS, PATTERNS, SHAPES, THEMES, Item

# Logits of the choice of the next item. POPULARITY is the range, in nats, over the items' (shuffled) ranks. With the
# new items, which come late, it makes more than a third of the items rarer than 10 interactions.
POPULARITY = 1.8
COMPLEMENT = 2.2
PERSISTENCE = {"theme": 1.7, "material": 1.2, "colour": 1.7, "pattern": 1.2}
TASTE = 0.6
# Users start within DAYS days; the share NEW of the items enters the shop after NEW_FROM of that time.
DAYS = 300.0
NEW, NEW_FROM = 0.3, 0.6
DAY = 86_400.0
VALUES: dict[str, tuple[str, ...]] = {
    "theme": tuple(THEMES),
    "material": MATERIALS,
    "colour": tuple(COLOURS),
    "shape": tuple(SHAPES),
    "pattern": tuple(PATTERNS),
}
START = 1_577_836_800.0  # 2020-01-01T00:00:00Z


@dataclass(frozen=True)
class Interaction:
    """One event; ``timestamp`` is in seconds since 1970."""

    user: str
    item: str
    timestamp: float


def sequence_lengths(n_users: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Lengths of the histories, 5 to 15, mean about 8; int64 [n_users]."""
    return np.minimum(5 + rng.poisson(3.0, size=n_users), 15).astype(np.int64)


def make_interactions(items: Sequence[Item], n_users: int, rng: np.random.Generator) -> list[Interaction]:
    """Simulate ``n_users`` histories, oldest event first, no item twice in a history.

    There have to be enough items that are not new for the longest history: 22 items in all.
    """
    affinity = _affinity(items, rng)  # [n_items, n_items]
    popularity = -POPULARITY * rng.permutation(len(items)) / len(items)  # [n_items]
    taste = _taste(items, n_users, rng)  # [n_users, n_items]
    launch = _launch_times(len(items), rng)  # [n_items]
    interactions = []
    for user, length in enumerate(sequence_lengths(n_users, rng).tolist()):
        standing = popularity + taste[user]
        logits = standing
        available = np.ones(len(items), dtype=bool)
        timestamp = START + DAY * float(rng.uniform(0.0, DAYS))
        for _ in range(length):
            # the largest of Gumbel-perturbed logits is a draw from their softmax
            noisy = np.where(available & (launch <= timestamp), logits + rng.gumbel(size=len(items)), -np.inf)
            chosen = int(noisy.argmax())
            available[chosen] = False
            timestamp += float(rng.integers(600, int(7 * DAY)))
            interactions.append(Interaction(f"U{user + 1:05d}", items[chosen].token, timestamp))
            logits = standing + affinity[chosen]
    return interactions


def _launch_times(n_items: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """When each item enters the shop, in seconds since 1970; float64 [n_items]."""
    new = rng.permutation(n_items) < round(NEW * n_items)
    return np.where(new, START + DAY * rng.uniform(NEW_FROM, 1.0, size=n_items) * DAYS, -np.inf)


def _codes(items: Sequence[Item], attribute: str, values: Sequence[str]) -> NDArray[np.int64]:
    """Index of every item's value of an attribute; int64 [n_items]."""
    return np.array([values.index(getattr(item, attribute)) for item in items], dtype=np.int64)


def _affinity(items: Sequence[Item], rng: np.random.Generator) -> NDArray[np.float64]:
    """How much each item (row) calls for each next item (column); float64 [n_items, n_items]."""
    complements = np.zeros((len(KINDS), len(KINDS)))
    for source in range(len(KINDS)):
        others = np.delete(np.arange(len(KINDS)), source)
        complements[source, rng.choice(others, size=3, replace=False)] = COMPLEMENT
    kind = _codes(items, "kind", KINDS)
    affinity = complements[kind[:, None], kind[None, :]]
    for attribute, strength in PERSISTENCE.items():
        value = _codes(items, attribute, VALUES[attribute])
        affinity += strength * (value[:, None] == value[None, :])
    return affinity


def _taste(items: Sequence[Item], n_users: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Lasting taste: every user likes two materials, shapes and patterns; float64 [n_users, n_items]."""
    taste = np.zeros((n_users, len(items)))
    for attribute in ("material", "shape", "pattern"):
        likes = rng.random((n_users, len(VALUES[attribute]))).argsort(axis=1) < 2  # two of them, at random
        taste += TASTE * likes[:, _codes(items, attribute, VALUES[attribute])]
    return taste
