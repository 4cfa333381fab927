"""PackedDataLoader: every training pair once an epoch, with RecBole's inputs, and nothing held out in sight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.data.dataloader import PackedDataLoader
from recbole_msm4sr.data.dataset import VectorisedSequentialDataset

MAX_LENGTH = 10
COUNTS = {"short": [2, 3, 3, 4, 5, 6, 11, 12, 13], "long": [2, 3, 4, 12, 13, 14, 15, 30, 31, 47]}
Pair = tuple[tuple[int, ...], int]


@pytest.fixture
def data_path(tmp_path: Path) -> Path:
    """Data sets ``short`` and ``long``: every item belongs to one user, ``u<user>i<position>``."""
    rng = np.random.default_rng(3)
    for name, counts in COUNTS.items():
        rows = [f"u{user}\tu{user}i{k}\t{k}" for user, count in enumerate(counts) for k in range(count)]
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        text = [rows[i] for i in rng.permutation(len(rows))]
        (folder / f"{name}.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *text, ""]))
    return tmp_path / "data"


def make_config(data_path: Path, name: str, **settings: Any) -> Config:
    given = {"data_path": str(data_path), "MAX_ITEM_LIST_LENGTH": MAX_LENGTH, "train_batch_size": 24, **settings}
    return Config("SASRecM", name, config_dict={"window_stride": 5, "shuffle_buffer": 3, **given})


def make_loader(data_path: Path, name: str, **settings: Any) -> PackedDataLoader:
    config = make_config(data_path, name, **settings)
    return PackedDataLoader(config, VectorisedSequentialDataset(config).build()[0])


def pairs_of(batches: Iterable[Interaction]) -> Iterator[Pair]:
    """(inputs, target) of every position with a target."""
    for batch in batches:
        for items, targets in zip(batch["item_id_list"].tolist(), batch["target"].tolist(), strict=True):
            for j, target in enumerate(targets):
                if target:
                    yield tuple(items[: j + 1]), target


def stock_pairs(data_path: Path, name: str, **settings: Any) -> Counter[Pair]:
    """The rows that stock RecBole trains on."""
    rows = SequentialDataset(make_config(data_path, name, **settings)).build()[0].inter_feat
    columns = (rows[field].tolist() for field in ("item_id_list", "item_length", "item_id"))
    return Counter((tuple(items[:length]), target) for items, length, target in zip(*columns, strict=True))


def owner_and_position(loader: PackedDataLoader, item: int) -> tuple[int, int]:
    user, position = str(loader.dataset.id2token("item_id", item))[1:].split("i")
    return int(user), int(position)


def n_training_pairs(count: int) -> int:
    """Rows that leave-one-out keeps of a user with ``count`` items: all but two of ``count - 1``, at least one."""
    return max(count - 3, 1)


# --- the same pairs as RecBole


@pytest.mark.parametrize("stride", [1, 5, 10])
def test_histories_that_fit_are_trained_on_recboles_prefixes_once_an_epoch(data_path: Path, stride: int) -> None:
    loader = make_loader(data_path, "short", window_stride=stride)
    assert Counter(pairs_of(loader)) == stock_pairs(data_path, "short")
    assert len(loader.windows) == len(COUNTS["short"])  # packed: a row a user


def test_stride_1_trains_on_recboles_prefixes_of_long_histories_too(data_path: Path) -> None:
    assert Counter(pairs_of(make_loader(data_path, "long", window_stride=1))) == stock_pairs(data_path, "long")


def test_ml_100k_with_stride_1_is_trained_on_recboles_rows(tmp_path: Path) -> None:
    settings = {"user_inter_num_interval": "[40,70]", "MAX_ITEM_LIST_LENGTH": 50, "train_batch_size": 1024}
    stock = stock_pairs(tmp_path, "ml-100k", **settings)
    assert max(len(items) for items, _ in stock) == 50
    assert Counter(pairs_of(make_loader(tmp_path, "ml-100k", window_stride=1, **settings))) == stock


@pytest.mark.parametrize("name", ["short", "long"])
@pytest.mark.parametrize("stride", [1, 5])
def test_prefix_mode_trains_on_recboles_rows_one_target_a_row(data_path: Path, name: str, stride: int) -> None:
    batches = list(make_loader(data_path, name, train_mode="prefix", window_stride=stride))
    assert Counter(pairs_of(batches)) == stock_pairs(data_path, name)
    for batch in batches:
        assert ((batch["target"] != 0).sum(dim=1) == 1).all()


@pytest.mark.parametrize("name", ["short", "long"])
@pytest.mark.parametrize("stride", [1, 3, 5, 10])
@pytest.mark.parametrize("mode", ["packed", "prefix"])
def test_every_user_and_target_occurs_once_with_enough_context_and_nothing_held_out(
    data_path: Path, name: str, stride: int, mode: str
) -> None:
    loader = make_loader(data_path, name, window_stride=stride, train_mode=mode)
    seen = []
    for items, target in pairs_of(loader):
        user, position = owner_and_position(loader, target)
        inputs = [owner_and_position(loader, item) for item in items]
        assert inputs == [(user, k) for k in range(position - len(items), position)]
        least = MAX_LENGTH if mode == "prefix" else MAX_LENGTH - stride + 1
        assert len(items) >= min(position, least)
        seen.append((user, position))
    expected = [(user, k + 1) for user, count in enumerate(COUNTS[name]) for k in range(n_training_pairs(count))]
    assert sorted(seen) == expected
    assert loader.n_pairs == len(expected)


@pytest.mark.parametrize("mode", ["packed", "prefix"])
def test_held_out_items_are_not_even_an_input_without_a_target(data_path: Path, mode: str) -> None:
    loader = make_loader(data_path, "long", train_mode=mode)
    items = {
        item for batch in loader for field in ("item_id_list", "target") for item in batch[field].unique().tolist()
    }
    for item in items - {0}:
        user, position = owner_and_position(loader, item)
        assert position <= n_training_pairs(COUNTS["long"][user])


# --- batches


@pytest.mark.parametrize("mode", ["packed", "prefix"])
def test_batches_are_int64_left_aligned_and_padded_to_the_longest_row_present(data_path: Path, mode: str) -> None:
    widths = set()
    for batch in make_loader(data_path, "long", train_mode=mode, train_batch_size=12):
        items, target, length = batch["item_id_list"], batch["target"], batch["item_length"]
        assert set(batch.columns) == {"item_id_list", "target", "item_length"}
        assert items.dtype == target.dtype == length.dtype == torch.int64
        assert items.shape == target.shape == (len(length), int(length.max()))
        inside = torch.arange(items.shape[1]) < length.unsqueeze(1)
        assert torch.equal(items != 0, inside)
        assert (target[~inside] == 0).all()
        assert (target[torch.arange(len(length)), length - 1] != 0).all()  # the last input always has a next item
        shifted = (target[:, :-1] == items[:, 1:]) | (target[:, :-1] == 0) | ~inside[:, 1:]
        assert shifted.all()
        widths.add(items.shape[1])
    assert len(widths) > 1
    assert max(widths) <= MAX_LENGTH


def test_a_batch_counts_pairs_and_not_rows(tmp_path: Path) -> None:
    loader = make_loader(tmp_path, "ml-100k", MAX_ITEM_LIST_LENGTH=50, train_batch_size=1024, window_stride=25)
    assert loader.n_pairs == 97_171
    pairs = [int((batch["target"] != 0).sum()) for batch in loader]
    assert len(loader) == len(pairs)
    assert sum(pairs) == loader.n_pairs
    assert abs(len(pairs) / (97_171 / 1024) - 1) < 0.05
    assert all(900 < n < 1150 for n in pairs)


# --- order


def listed(batches: Iterable[Interaction]) -> list[Any]:
    return [[batch[field].tolist() for field in batch.columns] for batch in batches]


@pytest.mark.parametrize("mode", ["packed", "prefix"])
def test_the_order_follows_from_seed_and_epoch_alone(data_path: Path, mode: str) -> None:
    loader, again, other = (make_loader(data_path, "long", train_mode=mode, seed=seed) for seed in (7, 7, 8))
    epochs = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        epochs.append(listed(loader))
    again.set_epoch(2)  # as a resumed run does
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 - the global state must not matter
    assert listed(again) == epochs[2]
    other.set_epoch(2)
    assert listed(other) != epochs[2]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    flat = [sorted(map(str, pairs_of_listed(epoch))) for epoch in epochs]
    assert flat[0] == flat[1] == flat[2]


def pairs_of_listed(epoch: list[Any]) -> Iterator[tuple[list[int], list[int]]]:
    for items, target, length in epoch:
        for row, targets, n in zip(items, target, length, strict=True):
            yield row[:n], targets[:n]


def test_an_epoch_can_be_read_again(data_path: Path) -> None:
    loader = make_loader(data_path, "long")
    assert listed(loader) == listed(loader)
    assert len(loader) == len(listed(loader))


# --- splits that cannot be packed


def test_other_splits_than_leave_one_out_are_refused(data_path: Path) -> None:
    args = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"}
    with pytest.raises(UserError, match="packed training needs the leave-one-out split"):
        make_loader(data_path, "short", eval_args=args)


def test_a_training_part_with_gaps_is_refused(data_path: Path) -> None:
    config = make_config(data_path, "long")
    train = VectorisedSequentialDataset(config).build()[0]
    length = train.inter_feat["item_length"]
    with_gaps = train.copy(train.inter_feat.take(length != 2))
    with pytest.raises(UserError, match="needs a split that trains on the beginning of every history"):
        PackedDataLoader(config, with_gaps)


# --- several processes


def shares_of(data_path: Path, name: str, n_ranks: int, **settings: Any) -> list[list[Interaction]]:
    """Every process's batches of the first epoch."""
    loaders = [make_loader(data_path, name, **settings) for _ in range(n_ranks)]
    for rank, loader in enumerate(loaders):
        loader.share(rank, n_ranks)
    return [list(loader) for loader in loaders]


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_processes_share_the_batches_of_one_process_with_so_many_times_the_pairs(data_path: Path, n_ranks: int) -> None:
    shares = shares_of(data_path, "long", n_ranks, train_batch_size=20)
    whole = list(make_loader(data_path, "long", train_batch_size=20 * n_ranks))
    assert {len(share) for share in shares} == {len(whole)}
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert Counter(pairs_of(parts)) == Counter(pairs_of([batch]))


def test_shares_of_a_batch_have_about_as_many_pairs_and_positions(data_path: Path) -> None:
    batches = zip(*shares_of(data_path, "long", 2, train_mode="prefix", train_batch_size=30), strict=True)
    for parts in batches:
        n_pairs = [int((part["target"] > 0).sum()) for part in parts]
        positions = [part["item_id_list"].numel() for part in parts]
        assert abs(n_pairs[0] - n_pairs[1]) <= 1
        assert max(positions) <= min(positions) + 2 * MAX_LENGTH


def test_a_process_for_which_a_batch_has_no_window_gets_one_without_targets(data_path: Path) -> None:
    shares = shares_of(data_path, "short", 3, train_batch_size=1)
    whole = make_loader(data_path, "short", train_batch_size=3)
    assert Counter(pair for share in shares for pair in pairs_of(share)) == Counter(pairs_of(whole))
    without = [batch for share in shares for batch in share if not batch["target"].any()]
    assert without
    assert all(batch["item_length"].tolist() == [int((batch["item_id_list"] > 0).sum())] for batch in without)


def test_a_first_stage_trains_on_items_of_enough_interactions_alone(tiny_dataset: tuple[Path, str]) -> None:
    data_path, name = tiny_dataset

    def loader(model: str) -> PackedDataLoader:
        settings = {"data_path": str(data_path), "pretrain_min_item_count": 10, "MAX_ITEM_LIST_LENGTH": 50}
        config = Config(model, name, config_dict=settings)
        return PackedDataLoader(config, VectorisedSequentialDataset(config).build()[0])

    histories = [(*inputs, target) for inputs, target in longest_pairs(loader("MSM4SR"))]
    counts = Counter(item for history in histories for item in history)
    assert min(counts.values()) < 10 < max(counts.values())
    warm = [tuple(item for item in history if counts[item] >= 10) for history in histories]
    found = [(*inputs, target) for inputs, target in longest_pairs(loader("MSM4SRPretrain"))]
    assert Counter(found) == Counter(history for history in warm if len(history) >= 2)


def longest_pairs(loader: PackedDataLoader) -> Iterator[Pair]:
    """Of every window, one a history here, all inputs and the last target."""
    for batch in loader:
        for items, targets in zip(batch["item_id_list"].tolist(), batch["target"].tolist(), strict=True):
            length = sum(map(bool, targets))
            yield tuple(items[:length]), targets[length - 1]
