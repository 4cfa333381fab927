"""Ranks of targets: RecBole's metrics, exact ties, every user once, with and without the user's history."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.trainer import Trainer
from torch import Tensor
from two_processes import in_two_processes

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import DivergedError, UserError
from recbole_msm4sr.data import loading
from recbole_msm4sr.evaluation import ranking
from recbole_msm4sr.evaluation.ranking import Catalogue, History, rank_in_catalogue, rank_of_targets
from recbole_msm4sr.evaluation.user_ranks import user_ranks
from recbole_msm4sr.training.trainer import trainer_class

SMALL = {"hidden_size": 8, "attention_size": 4, "inner_size": 16, "n_experts": 2, "MAX_ITEM_LIST_LENGTH": 10}
TOP_K_METRICS = ["Recall", "NDCG", "MRR", "Hit", "Precision", "MAP"]


def build(data_path: Path, name: str, model: str, **settings: Any) -> tuple[Any, Any]:
    """A trainer with an untrained model of unlike scores, and the test loader."""
    given = {"data_path": str(data_path), **(SMALL if "M" in model else {}), "metrics": TOP_K_METRICS, **settings}
    config = Config(
        model, name, config_dict={"show_progress": False, "topk": [1, 3, 20], "valid_metric": "MRR@3"} | given
    )
    data = loading.load(config)
    train, _, test = loading.loaders(config, data)
    torch.manual_seed(4)
    recommender = config.spec.model_class(config, data.parts[0])
    for parameter in recommender.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    trainer = trainer_class(config)(config, recommender)
    trainer.eval_collector.data_collect(train)
    return trainer, test


def ranks_by_sorting(users: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """The place of each target in a stable descending sort, in float64, without item 0."""
    scores = users.double() @ items[1:].double().T
    order = scores.argsort(dim=1, descending=True, stable=True) + 1
    return (order == target.unsqueeze(1)).nonzero()[:, 1] + 1


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("MSM4SR", {"similarity": "dot"}),
        ("MSM4SR", {"similarity": "cosine"}),
        ("MSM4SR", {"modalities": ["text"], "use_id": False}),
        ("MSM4SRPretrain", {}),
        ("SASRecM", {}),
    ],
)
def test_every_metric_of_the_best_k_is_recboles(
    tiny_dataset: tuple[Path, str], model: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, test = build(*tiny_dataset, model, **settings)
    expected = Trainer.evaluate(trainer, test, load_best_model=False)
    monkeypatch.setattr(trainer.model, "full_sort_predict", None)  # no scores of all items are asked for
    found = trainer.evaluate(test, load_best_model=False)
    assert found == expected
    assert list(found) == list(expected)
    assert len({value for value in found.values()}) > 5, "the metrics tell ranks apart"


def test_ranks_are_in_the_order_of_the_part(tiny_dataset: tuple[Path, str]) -> None:
    trainer, test = build(*tiny_dataset, "MSM4SR")
    ranks, _ = rank_of_targets(trainer.model, test._dataset, users_at_once=7)
    rows = test._dataset.inter_feat[torch.arange(len(test._dataset))]
    with torch.no_grad():
        users, items = trainer.model.user_vectors(rows), trainer.model.item_vectors()
    assert ranks.dtype == torch.int64
    assert ranks.tolist() == ranks_by_sorting(users, items, rows["item_id"]).tolist()
    assert len(set(ranks.tolist())) > 10


@pytest.mark.parametrize("model", ["MSM4SR", "GRU4Rec", "LightGCN"])
def test_ranks_with_and_without_the_history_are_those_of_sorted_lists(
    tiny_dataset: tuple[Path, str], model: str
) -> None:
    """Of every user, however low the target stands; for sequential models both ways, else without the history alone."""
    settings = {"train_neg_sample_args": None} if model == "GRU4Rec" else {}
    trainer, test = build(*tiny_dataset, model, topk=[2], valid_metric="MRR@2", **settings)
    data = loading.load(trainer.config)
    history = History(data.dataset)
    trainer.evaluate(test, load_best_model=False, history=history)
    ranks = user_ranks(trainer, test, data.dataset, history, data.training_counts())
    assert ranks is not None
    met = defaultdict(set)
    for user, item in _lines(*tiny_dataset):
        met[user].add(item)
    token = data.dataset.field2id_token
    scores = torch.cat([trainer.scores(batch) for batch in test]).tolist()
    for row, (user, target) in enumerate(zip(ranks.user, ranks.item, strict=True)):
        order = sorted(range(1, data.dataset.item_num), key=lambda item: -scores[row][item])  # stable: ties by id
        listed = [token["item_id"][item] for item in order]
        unseen = [item for item in listed if item == target or item not in met[user]]
        assert ranks.unseen_rank[row] == unseen.index(target) + 1
        assert ranks.rank[row] == (unseen if model == "LightGCN" else listed).index(target) + 1
    assert ranks.unseen_rank.max() > 3  # beyond the best k


def _lines(data_path: Path, name: str) -> list[list[str]]:
    """User and item of every interaction of the file."""
    lines = (data_path / name / f"{name}.inter").read_text().splitlines()[1:]
    return [line.split("\t")[:2] for line in lines]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("MSM4SR", {}),
        ("MSM4SR", {"eval_args": {"mode": {"valid": "uni10", "test": "uni10"}}}),
        ("SASRec", {"train_neg_sample_args": None}),
        ("SASRec", {"train_neg_sample_args": None, "eval_args": {"mode": {"valid": "uni10", "test": "uni10"}}}),
        ("BPR", {}),
    ],
)
def test_scores_that_are_not_finite_are_an_error_and_not_the_first_rank(
    tiny_dataset: tuple[Path, str], model: str, settings: dict[str, Any], bad: float
) -> None:
    trainer, test = build(*tiny_dataset, model, **settings)
    for parameter in trainer.model.parameters():
        torch.nn.init.constant_(parameter, bad)
    with pytest.raises(DivergedError, match=f"^{model}, evaluation: the scores are not finite"):
        trainer.evaluate(test, load_best_model=False)


def test_a_score_of_minus_infinity_is_the_last(tiny_dataset: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that an item is impossible; padding and the history, which RecBole gives the same score, stay out."""
    trainer, test = build(*tiny_dataset, "BPR")
    data = loading.load(trainer.config)
    history = History(data.dataset)
    lowest = torch.full((data.dataset.item_num,), -torch.inf)
    monkeypatch.setattr(trainer.model, "full_sort_predict", lambda batch: lowest.repeat(len(batch), 1))
    trainer.evaluate(test, load_best_model=False, history=history)
    ranks = user_ranks(trainer, test, data.dataset, history, data.training_counts())
    assert ranks is not None
    met = defaultdict(set)
    ids = data.dataset.field2token_id["item_id"]
    for user, item in _lines(*tiny_dataset):
        met[user].add(ids[item])
    beyond = ranks.rank > 20
    for user, target, rank in zip(ranks.user[beyond], ranks.item[beyond], ranks.rank[beyond], strict=True):
        assert rank == max(21, 1 + sum(item not in met[user] for item in range(1, ids[target])))


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("MSM4SR", {"metrics": ["Recall", "ShannonEntropy"], "valid_metric": "Recall@3"}),
        ("MSM4SR", {"eval_args": {"mode": {"valid": "uni10", "test": "uni10"}}}),
        ("SASRec", {"train_neg_sample_args": None}),
    ],
)
def test_what_needs_more_than_ranks_goes_recboles_way(
    tiny_dataset: tuple[Path, str], model: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, test = build(*tiny_dataset, model, **settings)
    monkeypatch.setattr(ranking, "rank_of_targets", None)
    result = trainer.evaluate(test, load_best_model=False)
    assert all(name.split("@")[0] in {metric.lower() for metric in trainer.config["metrics"]} for name in result)
    assert result


def test_models_of_others_are_not_ranked_here(tiny_dataset: tuple[Path, str]) -> None:
    trainer, test = build(*tiny_dataset, "MSM4SR")
    assert isinstance(test, FullSortEvalDataLoader)
    assert ranking.applies(trainer.evaluator, trainer.model, test)
    assert not ranking.applies(trainer.evaluator, torch.nn.Linear(1, 1), test)


# -- ranks ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n_items", [2, 512, 513, 1500])
def test_ranks_are_those_of_a_stable_descending_sort(n_items: int) -> None:
    torch.manual_seed(n_items)
    users, items = torch.randn(200, 16), torch.randn(n_items, 16)
    target = torch.randint(1, n_items, (200,))
    assert (
        rank_in_catalogue(users, Catalogue(items), target).tolist() == ranks_by_sorting(users, items, target).tolist()
    )


@pytest.mark.parametrize("n_best", [1, 20, 2000])
@pytest.mark.parametrize("n_items", [40, 1500])
def test_ranks_up_to_the_best_asked_for_are_exact_and_the_others_below(n_items: int, n_best: int) -> None:
    torch.manual_seed(n_items + n_best)
    users, items = torch.randint(-9, 10, (300, 8)).float(), torch.randint(-9, 10, (n_items, 8)).float()  # many ties
    target = torch.randint(1, n_items, (300,))
    target[:150] = (users[:150] @ items[1:].T).argmax(dim=1) + 1
    exact = ranks_by_sorting(users, items, target)
    ranks = rank_in_catalogue(users, Catalogue(items), target, n_best)
    assert torch.equal(torch.where(exact <= n_best, exact, -1), torch.where(ranks <= n_best, ranks, -1))
    assert (exact <= n_best).any()


def test_items_of_equal_vectors_are_ranked_by_their_ids_wherever_they_are() -> None:
    """Thousands of equal items, as without features and IDs: float32 products of theirs may differ by rounding."""
    torch.manual_seed(0)
    kinds, users = torch.randn(3, 33), torch.randn(50, 33)
    kind = torch.randint(3, (1301,))
    target = torch.randint(1, 1301, (50,))
    ranks = rank_in_catalogue(users, Catalogue(kinds[kind]), target)
    scores = (users @ kinds.T).tolist()
    for row, (rank, item) in enumerate(zip(ranks.tolist(), target.tolist(), strict=True)):
        own = scores[row][kind[item]]
        better = sum(scores[row][kind[other]] > own for other in range(1, 1301))
        equal = int((kind[1:item] == kind[item]).sum())
        assert rank == better + equal + 1


def test_padding_is_not_ranked() -> None:
    items = torch.tensor([[9.0], [1.0], [2.0]])
    assert rank_in_catalogue(torch.ones(2, 1), Catalogue(items), torch.tensor([1, 2])).tolist() == [2, 1]


def test_scores_that_all_agree_are_ranked_by_id() -> None:
    users, items = torch.zeros(3, 4), torch.randn(700, 4)
    assert rank_in_catalogue(users, Catalogue(items), torch.tensor([1, 400, 699])).tolist() == [1, 400, 699]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38, 1e20])
@pytest.mark.parametrize("where", ["users", "items"])
def test_a_diverged_model_is_an_error_and_not_a_perfect_rank(bad: float, where: str) -> None:
    vectors = {"users": torch.full((5, 4), 1e19), "items": torch.full((9, 4), 1e19)}
    vectors[where][3, 2] = bad
    with pytest.raises(UserError, match="the model diverged"):
        rank_in_catalogue(vectors["users"], Catalogue(vectors["items"]), torch.tensor([1, 2, 3, 4, 5]))


def test_hits_hold_one_target_a_row() -> None:
    hits = ranking.hits(torch.tensor([1, 3, 4, 900]), 3).get("rec.topk")
    assert hits.tolist() == [[1, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 1]]


# -- several processes -----------------------------------------------------------------------------------------------
def rank_in_blocks_of(users_at_once: int, data_path: Path, name: str) -> list[list[int]]:
    trainer, test = build(data_path, name, "MSM4SR")
    history = History(loading.load(trainer.config).dataset)
    ranks = rank_of_targets(trainer.model, test._dataset, history=history, users_at_once=users_at_once)
    return [of_users.tolist() for of_users in ranks]


def test_processes_share_the_users_and_return_the_ranks_of_one_process(tiny_dataset: tuple[Path, str]) -> None:
    """40 users in blocks of 7 and, so that one process has none, in one block."""
    alone = rank_in_blocks_of(7, *tiny_dataset)
    assert len(alone[0]) == 40
    assert in_two_processes(rank_twice, *tiny_dataset) == [[alone, alone]] * 2


def rank_twice(data_path: Path, name: str) -> list[list[list[int]]]:
    return [rank_in_blocks_of(users_at_once, data_path, name) for users_at_once in (7, 1000)]
