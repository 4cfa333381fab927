"""The literal version of the paper and the package compute the same losses, gradients and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.data.utils import create_samplers, get_dataloader

from benchmarks.literal import LiteralFinetune, LiteralPretrain, drop_items
from benchmarks.literal_weights import translate
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.data import loading

LITERAL = {"MSM4SRPretrain": LiteralPretrain, "MSM4SR": LiteralFinetune}
WITHOUT_RANDOMNESS = {
    "encoder_dropout_prob": 0.0,
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "sequence_dropout": 0.0,
    "mixup_max": 0.0,
    "cmcl_weight": 0.5,
    "hidden_size": 16,
    "inner_size": 24,
    "n_experts": 3,
    "attention_size": 5,
    "use_gpu": False,
}

NO_GRADIENT = ("w1.bias", "w2.bias", "key.bias", "text.missing")  # softmax cancels these biases; every item has text


class Twins:
    """Our model and the literal one with the same weights, and a packed batch with its prefix rows."""

    def __init__(self, name: str, tiny_dataset: tuple[Path, str], **settings: Any) -> None:
        data_path, dataset = tiny_dataset
        sizes = {"train_batch_size": 64, "pretrain_batch_size": 64}
        settings = {"data_path": str(data_path), **sizes, **WITHOUT_RANDOMNESS, **settings}
        self.config = Config(name, dataset, None, settings, drop_unread=True)
        self.data = loading.load(self.config)
        train_loader, self.valid_loader, _ = loading.loaders(self.config, self.data)
        self.packed = next(iter(train_loader))
        torch.manual_seed(7)
        self.ours = self.config.spec.model_class(self.config, self.data.parts[0])
        with torch.no_grad():
            for parameter in self.ours.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
            if name == "MSM4SR":
                self.ours.item_embedding.weight[0] = 0
        self.literal = LITERAL[name](self.config, self.data.parts[0])
        self.literal.load_state_dict(translate(self.ours.state_dict()))

    def prefixes(self) -> Interaction:
        """RecBole's rows of the packed batch: one a (sequence, next item) pair, padded to MAX_ITEM_LIST_LENGTH."""
        item_seq, target = self.packed["item_id_list"], self.packed["target"]
        row, time = target.nonzero(as_tuple=True)
        rows = torch.zeros(len(row), self.config["MAX_ITEM_LIST_LENGTH"], dtype=torch.int64)
        for i, (r, t) in enumerate(zip(row.tolist(), time.tolist(), strict=True)):
            rows[i, : t + 1] = item_seq[r, : t + 1]
        return Interaction({"item_id_list": rows, "item_length": time + 1, "item_id": target[row, time]})


@pytest.fixture(params=["MSM4SRPretrain", "MSM4SR"])
def twins(request: pytest.FixtureRequest, tiny_dataset: tuple[Path, str]) -> Twins:
    return Twins(request.param, tiny_dataset)


def test_the_losses_are_equal(twins: Twins) -> None:
    ours, literal = twins.ours.calculate_loss(twins.packed), twins.literal.calculate_loss(twins.prefixes())
    torch.testing.assert_close(ours, literal if isinstance(literal, tuple) else (literal,), rtol=1e-5, atol=0)


def test_the_gradients_are_equal(twins: Twins) -> None:
    sum(twins.ours.calculate_loss(twins.packed)).backward()
    literal_loss = twins.literal.calculate_loss(twins.prefixes())
    (sum(literal_loss) if isinstance(literal_loss, tuple) else literal_loss).backward()
    named = twins.ours.named_parameters()
    gradients = translate({name: p.grad if p.requires_grad else torch.zeros_like(p) for name, p in named})
    for name, parameter in twins.literal.named_parameters():
        expected = parameter.grad
        if name.endswith(NO_GRADIENT):
            assert gradients[name].abs().max() < 1e-6
            assert expected.abs().max() < 1e-6
        else:
            assert expected.abs().max() > 1e-5, name
            torch.testing.assert_close(gradients[name], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
def test_the_scores_of_an_evaluation_are_equal(tiny_dataset: tuple[Path, str]) -> None:
    twins = Twins("MSM4SR", tiny_dataset)
    interaction = next(iter(twins.valid_loader))[0]
    ours, literal = twins.ours.eval(), twins.literal.eval()
    torch.testing.assert_close(
        ours.full_sort_predict(interaction)[:, 1:], literal.full_sort_predict(interaction)[:, 1:], rtol=1e-4, atol=1e-4
    )


def test_the_fixture_lacks_pictures_so_that_the_missing_vector_is_compared(tiny_dataset: tuple[Path, str]) -> None:
    twins = Twins("MSM4SR", tiny_dataset)
    has_picture = twins.literal.encoders["image"].present.any(dim=1)
    assert 0 < has_picture[1:].sum() < len(has_picture) - 1


def test_recbole_can_feed_and_train_the_literal_version(twins: Twins) -> None:
    sampler = create_samplers(twins.config, twins.data.dataset, list(twins.data.parts))[0]
    loader = get_dataloader(twins.config, "train")(twins.config, twins.data.parts[0], sampler, shuffle=True)
    batch = next(iter(loader))
    assert batch["item_id_list"].shape == (64, twins.config["MAX_ITEM_LIST_LENGTH"])
    loss = twins.literal.calculate_loss(batch)
    assert torch.isfinite(sum(loss) if isinstance(loss, tuple) else loss)


def test_random_dropout_keeps_the_first_item_and_the_order() -> None:
    torch.manual_seed(0)
    item_seq = torch.arange(1, 9).repeat(50, 1)
    item_seq[:, 6:] = 0
    rows, length = drop_items(item_seq, 0.5)
    for row, n in zip(rows.tolist(), length.tolist(), strict=True):
        assert row[0] == 1
        assert row[:n] == sorted(set(row[:n]))
        assert row[n:] == [0] * (8 - n)
    assert 0.4 < (length - 1).float().mean() / 5 < 0.6


def test_mixup_and_dropout_change_the_literal_loss(tiny_dataset: tuple[Path, str]) -> None:
    for setting in ({"mixup_max": 0.5}, {"sequence_dropout": 0.5}, {"encoder_dropout_prob": 0.5}):
        literal = Twins("MSM4SRPretrain", tiny_dataset, **setting).literal
        batch = Twins("MSM4SRPretrain", tiny_dataset).prefixes()
        assert literal.calculate_loss(batch)[0] != literal.calculate_loss(batch)[0], setting


def test_a_weight_without_counterpart_is_an_error(twins: Twins) -> None:
    with pytest.raises(ValueError, match=r"no counterpart of m2se\.other"):
        translate({**twins.ours.state_dict(), "m2se.other": torch.zeros(1)})


def test_the_literal_version_scores_by_dot_product_only(tiny_dataset: tuple[Path, str]) -> None:
    with pytest.raises(ValueError, match="not by cosine"):
        Twins("MSM4SR", tiny_dataset, similarity="cosine")
