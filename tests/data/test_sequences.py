"""sequences: the vectorised functions against plain loops, on random histories."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from recbole_msm4sr.data import sequences
from recbole_msm4sr.data.sequences import Windows

LENGTH_AND_STRIDE = [(5, 1), (5, 2), (5, 5), (1, 1), (50, 1), (50, 25), (50, 50)]


def random_users(seed: int, longest: int = 130) -> np.ndarray:
    """Owners of a flat array: users of 1, 2, 3, 4 items, of about max_length items, of many; ids unsorted."""
    rng = np.random.default_rng(seed)
    counts = np.concatenate([[1, 2, 3, 4, 5, 6, 7, 49, 50, 51, 52, 101, 1, 1], rng.integers(1, longest, 12)])
    return np.repeat(rng.permutation(1000)[: len(counts)], rng.permutation(counts))


def histories(user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First flat position and number of pairs of every history, by a loop."""
    first, pairs = [], []
    for position, owner in enumerate(user):
        if position and user[position - 1] == owner:
            pairs[-1] += 1
        else:
            first.append(position)
            pairs.append(0)
    return np.array(first), np.array(pairs)


def prefixes(user: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Target and first input of every pair."""
    target, first = sequences.prefixes(user)
    return target, sequences.first_inputs(user, first, target, max_length)


def naive_prefixes(user: np.ndarray, max_length: int) -> list[tuple[int, int]]:
    """RecBole's loop (SequentialDataset.data_augmentation)."""
    pairs, last, start = [], None, 0
    for i, owner in enumerate(user):
        if last != owner:
            last, start = owner, i
        else:
            if i - start > max_length:
                start += 1
            pairs.append((i, start))
    return pairs


def naive_leave_one_out(user: np.ndarray) -> list[list[int]]:
    """RecBole's loops (Dataset._grouped_index and _split_index_by_leave_one_out)."""
    groups: dict[int, list[int]] = {}
    for row, owner in enumerate(user):
        groups.setdefault(owner, []).append(row)
    parts: list[list[int]] = [[], [], []]
    for rows in groups.values():
        held_out = min(2, len(rows) - 1)
        parts[0] += rows[: len(rows) - held_out]
        for k in range(held_out):
            parts[k - held_out].append(rows[len(rows) - held_out + k])
    return parts


def pairs_of(windows: Windows) -> list[tuple[int, int]]:
    """(target, first input) of every pair that the windows hold."""
    return [
        (start + j + 1, start)
        for start, length, skip in zip(windows.start, windows.length, windows.skip, strict=True)
        for j in range(skip, length)
    ]


# --- order


ORDERED = {
    "ids": lambda rng: rng.integers(0, 50, 3000),
    "few ids": lambda rng: rng.integers(0, 3, 3000),
    "wide ids": lambda rng: rng.integers(-(2**40), 2**40, 3000),
    "narrow ids": lambda rng: rng.integers(-(2**31), 2**31, 3000).astype(np.int32),
    "floats": lambda rng: rng.standard_normal(3000).astype(np.float32).round(1),
    "zeros of both signs": lambda rng: rng.choice(np.array([0.0, -0.0, 1, -1], dtype=np.float32), 3000),
    "infinities": lambda rng: rng.choice(np.array([np.inf, -np.inf, 3e38, -3e38, 1e-45], dtype=np.float32), 3000),
    "missing times": lambda rng: rng.choice(np.array([np.nan, -np.nan, 5, -5], dtype=np.float32), 3000),
    "milliseconds": lambda rng: rng.integers(10**12, 2 * 10**12, 3000).astype(np.float64),
    "doubles": lambda rng: rng.standard_normal(3000).round(1),
    "nothing": lambda rng: np.empty(0, dtype=np.int64),
}


@pytest.mark.parametrize("name", ORDERED)
def test_stable_argsort_is_numpys(name: str) -> None:
    values = ORDERED[name](np.random.default_rng(0))
    before = values.copy()
    order = sequences.stable_argsort(values)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(order, np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(values, before)


def test_chronological_sorts_by_user_then_time_and_keeps_ties() -> None:
    rng = np.random.default_rng(0)
    user, time = rng.integers(1, 40, 2000), rng.integers(-2, 3, 2000).astype(np.float32)
    np.testing.assert_array_equal(sequences.chronological(user, time), np.lexsort((time, user)))


def test_neighbours_that_float32_would_swap_are_counted() -> None:
    rng = np.random.default_rng(1)
    user, time = rng.integers(1, 20, 500), 1.5e9 + rng.integers(0, 2000, 500)
    order = sequences.chronological(user, time)
    in_float32 = np.argsort(sequences.chronological(user, time.astype(np.float32)))
    neighbours = [(a, b) for a, b in itertools.pairwise(order) if user[a] == user[b]]
    expected = sum(in_float32[a] > in_float32[b] for a, b in neighbours)
    assert sequences.count_swapped(user, time, order) == expected > 10
    assert sequences.count_swapped(user, time // 128 * 128, order) == 0


def test_ranges_lie_one_after_the_other() -> None:
    assert sequences.ranges(np.array([7, 3, 9, 0]), np.array([2, 0, 1, 3])).tolist() == [7, 8, 9, 0, 1, 2]
    nothing = np.array([], dtype=np.int64)
    assert len(sequences.ranges(nothing, nothing)) == 0


# --- prefixes


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_length", [1, 2, 5, 50, 1000])
def test_prefixes_are_those_of_recboles_loop_in_its_order(seed: int, max_length: int) -> None:
    user = random_users(seed)
    target, start = prefixes(user, max_length)
    assert list(zip(target.tolist(), start.tolist(), strict=True)) == naive_prefixes(user, max_length)


@pytest.mark.parametrize("user", [[], [7], [7, 8, 9]])
def test_users_without_a_next_item_have_no_prefixes(user: list[int]) -> None:
    target, start = prefixes(np.array(user, dtype=np.int64), 5)
    assert len(target) == len(start) == 0


# --- leave_one_out


@pytest.mark.parametrize("seed", range(5))
def test_leave_one_out_is_recboles_with_users_interleaved(seed: int) -> None:
    rng = np.random.default_rng(seed)
    user = np.repeat(rng.permutation(100)[:40], rng.integers(1, 8, 40))
    target, first = sequences.prefixes(user)
    owner = rng.permutation(user[target])  # of the pairs in order of time
    target[np.argsort(owner, kind="stable")] = target[np.argsort(user[target], kind="stable")]
    parts = sequences.leave_one_out(user, target[first[user[target]] == target - 1])
    assert [part.tolist() for part in parts] == [target[rows].tolist() for rows in naive_leave_one_out(user[target])]
    assert sorted(np.concatenate(parts).tolist()) == sorted(target.tolist())


def test_short_users_train_first_and_test_second() -> None:
    user = np.array([9, 9, 5, 5, 5, 3, 3, 3, 3, 1, 1, 1, 1, 1, 7])
    train, valid, test = sequences.leave_one_out(user, np.array([1, 3, 6, 10]))
    assert train.tolist() == [1, 3, 6, 10, 11]
    assert valid.tolist() == [7, 12]
    assert test.tolist() == [4, 8, 13]


def test_leave_one_out_of_nothing_is_nothing() -> None:
    nothing = np.array([], dtype=np.int64)
    assert [len(part) for part in sequences.leave_one_out(nothing, nothing)] == [0, 0, 0]


# --- cut_windows


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("max_length", "stride"), LENGTH_AND_STRIDE)
def test_windows_hold_every_pair_once_and_stay_inside_their_history(seed: int, max_length: int, stride: int) -> None:
    user = random_users(seed)
    windows = sequences.cut_windows(*histories(user), max_length, stride)
    targets = [target for target, _ in pairs_of(windows)]
    assert len(targets) == len(set(targets)) == int(windows.n_targets.sum())
    assert sorted(targets) == [target for target, _ in naive_prefixes(user, max_length)]
    assert (windows.n_targets > 0).all()
    assert (windows.skip >= 0).all()
    assert windows.length.max() <= max_length
    for start, length in zip(windows.start, windows.length, strict=True):
        assert len(set(user[start : start + length + 1].tolist())) == 1  # inputs and last target: one owner


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("max_length", "stride"), LENGTH_AND_STRIDE)
def test_targets_see_their_whole_history_or_at_least_length_minus_stride_items(
    seed: int, max_length: int, stride: int
) -> None:
    user = random_users(seed)
    whole = dict(naive_prefixes(user, 10**6))  # target -> first item of its history
    for target, start in pairs_of(sequences.cut_windows(*histories(user), max_length, stride)):
        assert target - start >= min(target - whole[target], max_length - stride + 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_length", [1, 5, 50])
def test_stride_1_gives_exactly_recboles_prefixes_on_long_histories(seed: int, max_length: int) -> None:
    user = random_users(seed)
    windows = sequences.cut_windows(*histories(user), max_length, 1)
    assert sorted(pairs_of(windows)) == naive_prefixes(user, max_length)


@pytest.mark.parametrize("stride", [1, 3, 5])
def test_a_history_of_at_most_max_length_pairs_is_one_exact_window(stride: int) -> None:
    windows = sequences.cut_windows(np.array([0, 6, 7]), np.array([5, 0, 2]), 5, stride)
    assert windows.start.tolist() == [0, 7]
    assert windows.length.tolist() == [5, 2]
    assert windows.skip.tolist() == [0, 0]


def test_the_largest_stride_cuts_a_long_history_into_the_fewest_windows() -> None:
    windows = sequences.cut_windows(np.array([10]), np.array([12]), 5, 5)
    assert windows.start.tolist() == [10, 15, 17]
    assert windows.length.tolist() == [5, 5, 5]
    assert windows.skip.tolist() == [0, 0, 3]


def test_no_histories_give_no_windows() -> None:
    assert len(sequences.cut_windows(np.array([3, 4]), np.array([0, 0]), 5, 2)) == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_length", [1, 5, 50])
def test_prefix_windows_predict_only_after_their_last_input(seed: int, max_length: int) -> None:
    user = random_users(seed)
    target, start = prefixes(user, max_length)
    windows = sequences.prefix_windows(target, start)
    assert (windows.n_targets == 1).all()
    assert pairs_of(windows) == naive_prefixes(user, max_length)


# --- gather


@pytest.mark.parametrize("width", [4, 9])
def test_gather_left_aligns_and_pads_with_zeros_up_to_the_end_of_the_array(width: int) -> None:
    values = np.arange(100, 112)
    start, length = np.array([0, 8, 11, 11, 3]), np.array([4, 4, 1, 0, 2])
    expected = [[*values[s : s + n].tolist(), *[0] * (width - n)] for s, n in zip(start, length, strict=True)]
    np.testing.assert_array_equal(sequences.gather(values, start, length, width), expected)
    assert sequences.gather(values, start, length, width).dtype == values.dtype


# --- plan_epoch


def random_windows(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 51, n)
    return length, np.where(rng.random(n) < 0.3, np.minimum(length, 25), length)


def plan(seed: int, length: np.ndarray, n_targets: np.ndarray, batch_pairs: int, buffer_batches: int = 16) -> list:
    rng = np.random.default_rng(seed)
    return sequences.plan_epoch(length, n_targets, batch_pairs, buffer_batches=buffer_batches, rng=rng)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [1, 2, 30, 3000])
@pytest.mark.parametrize("batch_pairs", [1, 64, 1024])
@pytest.mark.parametrize("buffer_batches", [1, 16])
def test_an_epoch_holds_every_window_once(seed: int, n: int, batch_pairs: int, buffer_batches: int) -> None:
    batches = plan(seed, *random_windows(seed, n), batch_pairs, buffer_batches)
    assert all(len(batch) for batch in batches)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))


@pytest.mark.parametrize("buffer_batches", [1, 4, 16, 10_000])
@pytest.mark.parametrize("batch_pairs", [256, 1024])
def test_batches_have_about_batch_pairs_pairs_and_an_epoch_as_many_steps_as_recbole(
    batch_pairs: int, buffer_batches: int
) -> None:
    length, n_targets = random_windows(0, 4000)
    batches = plan(1, length, n_targets, batch_pairs, buffer_batches)
    steps = math.ceil(n_targets.sum() / batch_pairs)
    buffers = max(1, round(steps / buffer_batches))
    assert abs(len(batches) - steps) <= buffers
    assert abs(len(batches) / steps - 1) < 0.05
    pairs = np.array([n_targets[batch].sum() for batch in batches])
    assert abs(pairs.mean() / batch_pairs - 1) < 0.05
    assert (np.abs(pairs - batch_pairs) <= 50 + 0.05 * batch_pairs).all()


@pytest.mark.parametrize("n", [130, 149, 249])
def test_small_epochs_aim_at_batch_pairs_too(n: int) -> None:
    one = np.ones(n, dtype=np.int64)
    pairs = [len(batch) for batch in plan(0, one, one, 100)]
    assert len(pairs) == math.ceil(n / 100)
    assert max(pairs) <= 101


def test_batches_are_bucketed_by_length_inside_the_shuffle_buffer() -> None:
    length, n_targets = random_windows(0, 4000)
    padded = {
        buffer: sum(length[batch].max() * len(batch) for batch in plan(1, length, n_targets, 1024, buffer))
        for buffer in (1, 16)
    }
    assert padded[16] < 1.15 * length.sum()
    assert padded[1] > 1.5 * length.sum()


def test_the_order_follows_from_the_random_numbers_and_differs_between_epochs() -> None:
    length, n_targets = random_windows(0, 500)
    first, again, other = (plan(seed, length, n_targets, 256) for seed in (1, 1, 2))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]
    members = [{frozenset(batch.tolist()) for batch in batches} for batches in (first, other)]
    assert len(members[0] & members[1]) <= 1  # not the same batches in another order either


def test_batches_of_an_epoch_come_in_no_order_of_length() -> None:
    length, n_targets = random_windows(0, 4000)
    means = [length[batch].mean() for batch in plan(3, length, n_targets, 1024)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


def test_windows_that_share_a_batch_change_from_epoch_to_epoch() -> None:
    length = n_targets = np.full(200, 10)
    together = defaultdict(set)
    for seed in range(20):
        for batch in plan(seed, length, n_targets, 100):
            if 0 in batch:
                together[0] |= set(batch.tolist())
    assert len(together[0]) > 100


def test_a_single_window_is_a_single_batch() -> None:
    for pairs in (1, 7, 100):
        batches = plan(0, np.array([7]), np.array([7]), pairs)
        assert [batch.tolist() for batch in batches] == [[0]]


def test_no_windows_give_no_batches() -> None:
    nothing = np.array([], dtype=np.int64)
    assert plan(0, nothing, nothing, 100) == []


@pytest.mark.parametrize("min_count", [0, 1, 3, 5, 1000])
def test_rare_items_leave_all_histories(min_count: int) -> None:
    rng = np.random.default_rng(min_count)
    histories = [rng.integers(1, 30, rng.integers(2, 9)).tolist() for _ in range(25)]
    gaps = [rng.integers(1, 30, rng.integers(0, 4)).tolist() for _ in histories]  # held out: no part of a history
    item = np.array([i for pair in zip(histories, gaps, strict=True) for part in pair for i in part])
    length = np.array([len(history) for history in histories])
    first = np.cumsum(length + [len(gap) for gap in gaps]) - length - [len(gap) for gap in gaps]
    counts = Counter(i for history in histories for i in history)
    expected = [[i for i in history if counts[i] >= min_count] for history in histories]
    kept, begin, n_pairs = sequences.without_rare_items(item, first, length - 1, min_count)
    found = [kept[b : b + n + 1].tolist() for b, n in zip(begin, n_pairs, strict=True)]
    assert found == [history for history in expected if len(history) >= 2]
