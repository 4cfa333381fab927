"""Users' histories as flat arrays: order, prefixes, leave-one-out split, packed windows. Arrays in, arrays out.

A *pair* is an input sequence and its next item. Interactions lie in one flat array, user by user, each user's in
order; a pair is named by the flat position of its next item, ``next_position``, and reads the inputs before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
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


def stable_argsort(values: NDArray) -> Int:
    """``np.argsort(values, kind="stable")``, ten times as fast for whole numbers: torch sorts int32 by radix."""
    if not len(values) or not (values.min() > -(2**62) and values.max() < 2**62):  # NaN, too
        return np.argsort(values, kind="stable")
    whole = values.astype(np.int64)
    if values.dtype.kind == "f" and (whole != values).any():
        return np.argsort(values, kind="stable")
    whole -= whole.min()
    order = _argsort_int32(whole & 0x7FFFFFFF)
    for shift in range(31, int(whole.max()).bit_length(), 31):
        order = order[_argsort_int32((whole >> shift & 0x7FFFFFFF)[order])]
    return order


def _argsort_int32(values: Int) -> Int:
    return torch.sort(torch.from_numpy(values.astype(np.int32)), stable=True).indices.numpy()


def chronological(user: Int, time: NDArray) -> Int:
    """Order of interactions by user, then by time, ties as they come; int64 ``[T]``."""
    by_time = stable_argsort(time)
    return by_time[stable_argsort(user[by_time])]


def count_swapped(user: Int, time: NDArray[np.float64], order: Int) -> int:
    """Neighbours in users' histories that would change places if times were float32.

    Args:
        user: owner of every interaction, int64 ``[T]``.
        time: float64 ``[T]``.
        order: by user, then by time, ties as they come (``chronological``); int64 ``[T]``.
    """
    single = time.astype(np.float32)
    if (single == time).all():
        return 0
    (later,) = np.nonzero(order[1:] < order[:-1])  # tied in float64, they are in the order of the file
    earlier, later = order[later], order[later + 1]
    return int(((user[earlier] == user[later]) & (single[earlier] == single[later])).sum())


def prefixes(user: Int) -> tuple[Int, Int]:
    """All (prefix, next item) pairs, as RecBole's data augmentation makes them.

    Args:
        user: owner of every interaction, int64 ``[T]``, each user's interactions adjacent.

    Returns:
        ``next_position``, int64 ``[N]``, and ``first``, the flat position of every user's first interaction, int64
        ``[max(user) + 1]``.
    """
    is_first = np.ones(len(user), dtype=bool)
    is_first[1:] = user[1:] != user[:-1]
    begin = np.flatnonzero(is_first)
    first = np.zeros(user.max(initial=-1) + 1, dtype=np.int64)
    first[user[begin]] = begin
    return np.flatnonzero(~is_first), first


def first_inputs(user: Int, first: Int, next_position: Int, max_length: int) -> Int:
    """Flat position of every pair's first input, the prefix cut to its last ``max_length`` items; int64 ``[N]``."""
    start = first[user[next_position]]
    return np.maximum(start, next_position - max_length, out=start)


def leave_one_out(user: Int, begin: Int) -> tuple[Int, Int, Int]:
    """RecBole's leave-one-out: the last two pairs of every user are held out, the others train.

    Users come in the order of their first pair, a user's pairs in that of the flat array. A user keeps at least one
    training pair: with fewer pairs than parts, the last part (test) is served first.

    Args:
        user: owner of every interaction, int64 ``[T]``, each user's interactions adjacent.
        begin: next positions of all users' first pairs, in order of time; int64 ``[users with a pair]``.

    Returns:
        The next positions of three parts: train, valid, test.
    """
    n_pairs = np.bincount(user)[user[begin]] - 1
    end, held_out = begin + n_pairs, np.minimum(2, n_pairs - 1)
    return ranges(begin, n_pairs - held_out), end[held_out >= 2] - 2, end[held_out >= 1] - 1


def ranges(start: Int, length: Int) -> Int:
    """The numbers ``start[i] .. start[i] + length[i] - 1`` of every i, one range after the other."""
    end = np.cumsum(length)
    return np.arange(length.sum()) + np.repeat(start - (end - length), length)


def without_rare_items(item: Int, first: Int, n_pairs: Int, min_count: int) -> tuple[Int, Int, Int]:
    """Leave out of all histories the items that occur in them fewer than ``min_count`` times.

    Args:
        item: item ids, int64 ``[T]``.
        first: flat position of every history's first item; int64 ``[H]``.
        n_pairs: pairs of every history, which has one item more; int64 ``[H]``.

    Returns:
        What is left of the histories, one after the other: new ``item``, ``first`` and ``n_pairs``. Histories that are
        left with fewer than two items are gone.
    """
    positions = ranges(first, n_pairs + 1)
    owner = np.repeat(np.arange(len(first)), n_pairs + 1)
    found = item[positions]
    is_kept = np.bincount(found)[found] >= min_count
    length = np.bincount(owner[is_kept], minlength=len(first))
    begin = np.cumsum(length) - length
    has_pair = length >= 2
    return found[is_kept], begin[has_pair], length[has_pair] - 1


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
    first, n_pairs = first[n_pairs > 0], n_pairs[n_pairs > 0]
    extra = -(-np.maximum(n_pairs - max_length, 0) // stride)
    count = 1 + extra
    history = np.repeat(np.arange(len(first)), count)
    number = ranges(np.zeros_like(count), count)
    end = np.minimum(max_length + number * stride, n_pairs[history])  # inputs of the history read so far
    previous = np.where(number == 0, 0, max_length + (number - 1) * stride)
    length = np.minimum(end, max_length)
    return Windows(start=first[history] + end - length, length=length, skip=length - (end - previous))


def prefix_windows(next_position: Int, start: Int) -> Windows:
    """RecBole's way as windows: one per pair, whose last position alone is a target."""
    length = next_position - start
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
