"""Adam for most weights, lazy Adam for embeddings with sparse gradients."""

from __future__ import annotations

import torch
from torch import nn

from recbole_msm4sr.training.optimizers import DenseAndSparse, fused, parameter_groups, sparse_embeddings


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(6, 3, sparse=True)
        self.dense_embedding = nn.Embedding(6, 3)
        self.linear = nn.Linear(3, 1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.linear(self.embedding(ids) + self.dense_embedding(ids)).square().sum()


def optimizer_of(model: nn.Module) -> DenseAndSparse:
    embeddings = sparse_embeddings(model)
    others = [p for p in model.parameters() if p is not embeddings[0]]
    return DenseAndSparse(torch.optim.Adam(others, lr=0.1), embeddings, 0.1)


def train(model: Both, optimizer: DenseAndSparse, batches: list[list[int]]) -> None:
    for ids in batches:
        optimizer.zero_grad()
        model(torch.tensor(ids)).backward()
        optimizer.step()


def test_only_sparse_embeddings_are_found() -> None:
    model = Both()
    assert [p is model.embedding.weight for p in sparse_embeddings(model)] == [True]


def test_all_weights_learn_and_untouched_rows_stay() -> None:
    model = Both()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, optimizer_of(model), [[1, 2], [2, 2]])
    for name, parameter in model.named_parameters():
        changed = (parameter != before[name]).view(len(parameter), -1).any(dim=1)
        if name == "embedding.weight":
            assert changed.tolist() == [False, True, True, False, False, False]
        else:
            assert changed.any(), name


def test_a_row_that_every_step_touches_moves_as_under_adam() -> None:
    lazy, plain = Both(), Both()
    plain.embedding.sparse = False
    adam = torch.optim.Adam(plain.parameters(), lr=0.1)
    train(lazy, optimizer_of(lazy), [[3]] * 5)
    for _ in range(5):
        adam.zero_grad()
        plain(torch.tensor([3])).backward()
        adam.step()
    torch.testing.assert_close(lazy.embedding.weight, plain.embedding.weight)


def test_state_survives_a_round_trip() -> None:
    whole, halves = Both(), Both()
    batches = [[0, 1], [1, 4], [4, 4], [0, 5]]
    train(whole, optimizer_of(whole), batches)
    first = optimizer_of(halves)
    train(halves, first, batches[:2])
    second = optimizer_of(halves)
    second.load_state_dict(first.state_dict())
    train(halves, second, batches[2:])
    for ours, expected in zip(halves.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)


class WithIds(nn.Module):
    def __init__(self, *, sparse: bool = False, ids: bool = True) -> None:
        super().__init__()
        self.item_embedding = nn.Embedding(6, 3, sparse=sparse) if ids else None
        self.linear = nn.Linear(3, 1)


def test_ids_have_a_rate_and_a_decay_of_their_own() -> None:
    model = WithIds()
    optimizer = fused(torch.optim.Adam(parameter_groups(model, id_learning_rate=0.5, id_weight_decay=0.2), lr=0.1))
    rest, ids = optimizer.param_groups
    assert [id(p) for p in rest["params"]] == [id(p) for p in model.linear.parameters()]
    assert [id(p) for p in ids["params"]] == [id(model.item_embedding.weight)]
    assert [(group["lr"], group["weight_decay"], group["fused"]) for group in (rest, ids)] == [
        (0.1, 0, True),
        (0.5, 0.2, True),
    ]


def test_sparse_ids_and_models_without_ids_have_one_group() -> None:
    for model in (WithIds(sparse=True), WithIds(ids=False)):
        [group] = parameter_groups(model, id_learning_rate=0.5, id_weight_decay=0.0)
        assert [id(p) for p in group["params"]] == [id(p) for p in model.linear.parameters()]
