"""Ranks of single users: their means are RecBole's figures, and they say what groups a user belongs to."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from recbole_msm4sr import run
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.evaluation.user_ranks import UserRanks

Tiny = tuple[Path, str]


def _run(tiny: Tiny, model: str, **settings: object) -> tuple[dict[str, float], UserRanks]:
    data_path, name = tiny
    common = {"data_path": str(data_path), "epochs": 1, "use_gpu": False, "topk": [5, 10], "valid_metric": "Recall@10"}
    result = run(model, name, config_dict={**common, **settings})
    return result["test_result"], UserRanks.load(Path(result["run_folder"]) / "test_ranks.npz")


@pytest.mark.parametrize("model", ["SASRecM", "GRU4Rec", "BPR"])
def test_means_over_users_are_recboles_metrics(tiny_dataset: Tiny, model: str) -> None:
    test_result, ranks = _run(tiny_dataset, model)
    for name, value in test_result.items():
        assert ranks.metric(name).mean() == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("model", ["SASRecM", "BPR"])
def test_targets_histories_and_counts_are_those_of_the_file(tiny_dataset: Tiny, model: str) -> None:
    data_path, name = tiny_dataset
    _, ranks = _run(tiny_dataset, model)
    histories = defaultdict(list)
    for line in (data_path / name / f"{name}.inter").read_text().splitlines()[1:]:
        user, item, time = line.split("\t")
        histories[user].append((float(time), item))
    ordered = {
        user: [item for _, item in sorted(events, key=lambda event: event[0])] for user, events in histories.items()
    }
    trained = Counter(item for items in ordered.values() for item in items[:-2])
    assert sorted(ranks.user) == sorted(ordered)
    assert ranks.item.tolist() == [ordered[user][-1] for user in ranks.user]
    assert ranks.history_length.tolist() == [len(ordered[user]) - 1 for user in ranks.user]
    assert ranks.target_count.tolist() == [trained[item] for item in ranks.item]


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_users_with_several_targets_have_no_ranks(tiny_dataset: Tiny, model: str) -> None:
    data_path, name = tiny_dataset
    settings = {
        "data_path": str(data_path),
        "epochs": 1,
        "use_gpu": False,
        "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}},
    }
    result = run(model, name, config_dict=settings)
    assert result["test_result"]["recall@10"] >= 0
    assert not (Path(result["run_folder"]) / "test_ranks.npz").exists()


def _ranks(rank: list[int]) -> UserRanks:
    n = len(rank)
    tokens = np.array([f"u{i}" for i in range(n)])
    numbers = np.arange(n, dtype=np.int32)
    ranks = np.array(rank, dtype=np.int32)
    return UserRanks(tokens, tokens, ranks, ranks, numbers, numbers)


def test_recall_and_ndcg_of_known_ranks() -> None:
    ranks = _ranks([1, 3, 10, 11])
    np.testing.assert_array_equal(ranks.metric("Recall@5"), [1, 1, 0, 0])
    np.testing.assert_allclose(ranks.metric("ndcg@10"), [1, 0.5, 1 / np.log2(11), 0])


@pytest.mark.parametrize("name", ["mrr@10", "recall", "recall@x", "ndcg@²"])
def test_metrics_that_ranks_do_not_tell_are_refused(name: str) -> None:
    with pytest.raises(UserError):
        _ranks([1]).metric(name)


@pytest.mark.parametrize(
    "change", ["missing", "empty", "cut", "another", "short", "objects", "flipped", "older", "text"]
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, change: str) -> None:
    path = tmp_path / "ranks.npz"
    _ranks([1, 2**20, 11]).save(path)
    np.testing.assert_array_equal(UserRanks.load(path).rank, [1, 2**20, 11])
    whole, columns = path.read_bytes(), vars(_ranks([1, 2**20, 11]))
    damaged = {
        "short": {"rank": np.ones(2, dtype=np.int32)},
        "objects": {"user": np.array([1, "a", None], dtype=object)},
        "older": {"n_best": np.array(20)},
        "text": {"rank": np.array(["1", "2", "3"])},
    }
    if change in damaged:
        np.savez_compressed(path, **{**columns, **damaged[change]})
    else:
        contents = {"empty": b"", "cut": whole[:-200], "another": b"not a zip", "flipped": bytearray(whole)}
        contents["flipped"][100] ^= 1  # type: ignore[index]
        path.unlink() if change == "missing" else path.write_bytes(contents[change])
    with pytest.raises(UserError, match="does not hold ranks of users"):
        UserRanks.load(path)
