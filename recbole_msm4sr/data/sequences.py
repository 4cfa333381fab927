"""Users' histories as flat arrays: prefixes, leave-one-out split, packed windows. Pure numpy.

A *pair* is an input sequence and its next item. Interactions lie in one flat array, user by user, each user's in
order; a pair is named by the flat position of its next item, ``target``, and reads the inputs before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Rows of packed training; each array int64 ``[W]``.

    Window w reads the flat positions ``start .. start + length - 1``; the next item of each is a target, save for the
    first ``skip`` positions, which only give context.
    """

    start: Int
    length: Int
    skip: Int

    def __len__(self) -> int:
        return len(self.start)

    @property
    def n_targets(self) -> Int:
        """Pairs of every window, int64 ``[W]``."""
        return self.length - self.skip


def prefixes(user: Int, max_length: int) -> tuple[Int, Int]:
    """All (prefix, next item) pairs, as RecBole's data augmentation makes them.

    Args:
        user: owner of every interaction, int64 ``[T]``, each user's interactions adjacent.
        max_length: longest prefix; older items are cut off.

    Returns:
        ``target`` and ``start``, int64 ``[N]``: a pair's inputs are the flat positions ``start .. target - 1``.
    """
    position = np.arange(len(user))
    is_first = np.ones(len(user), dtype=bool)
    is_first[1:] = user[1:] != user[:-1]
    first = np.maximum.accumulate(np.where(is_first, position, 0))
    target = position[~is_first]
    return target, np.maximum(first[target], target - max_length)


def leave_one_out(user: Int, n_held_out: int) -> list[Int]:
    """RecBole's leave-one-out: the last rows of every user are held out, the others train.

    Users come in the order of their first row. A user keeps at least one training row: with fewer rows than parts,
    the last part (test) is served first.

    Args:
        user: owner of every row, int64 ``[N]``, rows in order of time.
        n_held_out: 2 for validation and test, 1 for one of them.

    Returns:
        ``n_held_out + 1`` arrays of row numbers: train, then the held-out parts.
    """
    _, first, user = np.unique(user, return_index=True, return_inverse=True)
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(len(first))
    group = rank[user]
    order = np.argsort(group, kind="stable")
    count = np.bincount(group, minlength=len(first))
    from_end = np.repeat(np.cumsum(count), count) - np.arange(len(order)) - 1  # 0 for a user's last row
    held_out = np.repeat(np.minimum(n_held_out, count - 1), count)
    parts = [order[from_end >= held_out]]
    parts += [order[(from_end == k) & (from_end < held_out)] for k in reversed(range(n_held_out))]
    return parts


def cut_windows(first: Int, n_pairs: Int, max_length: int, stride: int) -> Windows:
    """Cut histories into windows that hold every pair exactly once.

    A history of at most ``max_length`` pairs is one window, and exact. A longer one is cut: every window after the
    first reads ``max_length`` inputs and adds up to ``stride`` targets, so a target sees at least
    ``max_length - stride + 1`` items. ``stride=1`` gives exactly the prefixes that RecBole makes.

    Args:
        first: flat position of every history's first item, int64 ``[H]``.
        n_pairs: pairs of every history (items minus one), int64 ``[H]``.
        max_length: most inputs of a window.
        stride: 1 .. max_length.

    Returns:
        The windows, history by history.
    """
    if not 1 <= stride <= max_length:
        raise ValueError(f"window_stride must be between 1 and MAX_ITEM_LIST_LENGTH ({max_length}), got {stride}")
    first, n_pairs = first[n_pairs > 0], n_pairs[n_pairs > 0]
    extra = -(-np.maximum(n_pairs - max_length, 0) // stride)
    count = 1 + extra
    history = np.repeat(np.arange(len(first)), count)
    number = np.arange(len(history)) - np.repeat(np.cumsum(count) - count, count)
    end = np.minimum(max_length + number * stride, n_pairs[history])  # inputs of the history read so far
    previous = np.where(number == 0, 0, max_length + (number - 1) * stride)
    length = np.minimum(end, max_length)
    return Windows(start=first[history] + end - length, length=length, skip=length - (end - previous))


def prefix_windows(target: Int, start: Int) -> Windows:
    """RecBole's way as windows: one per pair, whose last position alone is a target."""
    length = target - start
    return Windows(start=start, length=length, skip=length - 1)


def gather(values: NDArray, start: Int, length: Int, width: int) -> NDArray:
    """Left-aligned rows ``values[start : start + length]``, zero-padded to ``width``; ``[W, width]``."""
    column = np.arange(width)
    index = np.minimum(start[:, None] + column, len(values) - 1)
    return np.where(column < length[:, None], values[index], 0)


def plan_epoch(
    length: Int, n_targets: Int, batch_pairs: int, *, buffer_batches: int, rng: np.random.Generator
) -> list[Int]:
    """Shuffle windows into batches of about ``batch_pairs`` pairs and of similar length.

    All windows are shuffled and dealt into buffers of about ``buffer_batches`` batches; a buffer is sorted by length
    and cut where the pairs add up, so little is padded; then the batches are shuffled. An epoch has
    ``ceil(pairs / batch_pairs)`` batches of about the same number of pairs, and no small remainder.

    Args:
        length: int64 ``[W]``.
        n_targets: int64 ``[W]``.
        batch_pairs: aimed pairs of a batch; a batch may miss it by the pairs of one window.
        buffer_batches: batches in a shuffle buffer.
        rng: the epoch's random numbers.

    Returns:
        Window numbers of every batch.
    """
    if len(length) == 0:
        return []
    order = rng.permutation(len(length))
    n_batches = -(-int(n_targets.sum()) // batch_pairs)
    n_buffers = max(1, round(n_batches / buffer_batches))
    edges = np.linspace(0, n_batches, n_buffers + 1).round().astype(np.int64)
    shares = _cut_evenly(order, n_targets, n_batches)
    batches: list[Int] = []
    for low, high in pairwise(edges.tolist()):
        buffer = np.concatenate(shares[low:high])
        buffer = buffer[np.argsort(length[buffer], kind="stable")]
        batches += [batch for batch in _cut_evenly(buffer, n_targets, high - low) if len(batch)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _cut_evenly(order: Int, weight: Int, n_parts: int) -> list[Int]:
    """``n_parts`` consecutive parts of ``order`` with about equal sums of ``weight``."""
    if len(order) == 0:
        return [order] * n_parts
    cumulative = np.cumsum(weight[order])
    middle = cumulative - weight[order] / 2
    part = np.minimum((middle * n_parts / cumulative[-1]).astype(np.int64), n_parts - 1)
    return np.split(order, np.searchsorted(part, np.arange(1, n_parts)))
