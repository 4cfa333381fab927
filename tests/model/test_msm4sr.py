"""MSM4SR: fine-tuning (eq. 12-13), its variants, and the item table of an evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy_reference as reference
import pytest
import torch
from tiny_catalogue import (
    histories,
    make_config,
    make_dataset,
    packed_batch,
    pairs_of,
    randomise,
    without_augmentation,
)

from recbole_msm4sr.model.msm4sr import MSM4SR, MSM4SRPretrain

VARIANTS = [
    {},
    {"similarity": "cosine"},
    {"use_id": False},
    {"modalities": ["text"]},
    {"modalities": ["image"], "use_id": False, "similarity": "cosine"},
    {"modalities": ["image", "text"]},
]
PREFIXES = [[1, 2, 3], [5], [8, 6, 7, 9, 1, 1, 4]]


def make_model(model_class: type = MSM4SR, **changes: Any) -> Any:
    return randomise(model_class(make_config(**changes), make_dataset()))


@pytest.mark.parametrize("changes", VARIANTS)
def test_loss_is_the_cross_entropy_of_equation_12(changes: dict[str, Any]) -> None:
    model, batch = make_model(**changes), packed_batch()
    prefixes, targets = map(list, zip(*pairs_of(batch), strict=True))
    scores = reference.finetune_scores(make_dataset(), model.state_dict(), prefixes, make_config(**changes))
    (loss,) = model.calculate_loss(batch)
    assert model.loss_names == ("ce",)
    np.testing.assert_allclose(loss.item(), reference.cross_entropy(scores, targets), rtol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("changes", VARIANTS)
def test_scores_are_those_of_equation_12(changes: dict[str, Any]) -> None:
    model = make_model(**changes).eval()
    expected = reference.finetune_scores(make_dataset(), model.state_dict(), PREFIXES, make_config(**changes))
    np.testing.assert_allclose(
        model.full_sort_predict(histories(PREFIXES))[:, 1:], expected[:, 1:], rtol=1e-8, atol=1e-9
    )


def test_end_to_end_training_adds_the_pretraining_losses() -> None:
    changes = {"training": "e2e", "cmcl_weight": 0.5} | without_augmentation()
    model, batch = make_model(**changes), packed_batch()
    assert model.loss_names == ("ce", "nip_text", "nip_image", "cmcl_text", "cmcl_image")
    losses = model.calculate_loss(batch)
    state, config, pairs = model.state_dict(), make_config(**changes), pairs_of(batch)
    scores = reference.finetune_scores(make_dataset(), state, [prefix for prefix, _ in pairs], config)
    expected = {"ce": reference.cross_entropy(scores, [target for _, target in pairs])}
    expected |= reference.pretrain_losses(make_dataset(), state, pairs, config)
    np.testing.assert_allclose([x.item() for x in losses], [expected[name] for name in model.loss_names], rtol=1e-9)


@pytest.mark.parametrize("training", ["two_stage", "finetune"])
def test_fine_tuning_alone_has_no_pretraining_weights(training: str) -> None:
    assert not [name for name in make_model(training=training).state_dict() if name.startswith("objective")]


def test_random_dropout_and_mixup_are_off_in_fine_tuning() -> None:
    model, batch = make_model(sequence_dropout=0.9, mixup_max=0.5), packed_batch()
    in_training = {model.train().calculate_loss(batch)[0].item() for _ in range(5)}
    assert len(in_training) == 1
    assert model.eval().calculate_loss(batch)[0].item() == pytest.approx(in_training.pop(), rel=1e-12)


@pytest.mark.parametrize("probability", ["encoder_dropout_prob", "hidden_dropout_prob", "attn_dropout_prob"])
def test_each_dropout_probability_acts_in_training_mode_only(probability: str) -> None:
    model, batch = make_model(**{probability: 0.5}), packed_batch()
    assert model.train().calculate_loss(batch)[0] != model.calculate_loss(batch)[0]
    assert model.eval().calculate_loss(batch)[0] == model.calculate_loss(batch)[0]


def test_padding_embedding_has_no_influence() -> None:
    model, batch = make_model(), packed_batch()
    before = model.calculate_loss(batch)[0].item()
    with torch.no_grad():
        model.item_embedding.weight[0] = 1e3
    assert model.calculate_loss(batch)[0].item() == before


# -- the item table of an evaluation -----------------------------------------------------------------------------------
@torch.no_grad()
def test_item_table_follows_a_loaded_backbone() -> None:
    model, pretrained = make_model().eval(), make_model(MSM4SRPretrain)
    model.full_sort_predict(histories(PREFIXES))
    model.load_backbone(pretrained.state_dict())
    fresh = make_model().eval()
    fresh.load_state_dict(model.state_dict())
    expected = fresh.full_sort_predict(histories(PREFIXES))
    torch.testing.assert_close(model.full_sort_predict(histories(PREFIXES)), expected, rtol=1e-12, atol=1e-12)


def test_training_never_uses_the_table_of_an_evaluation() -> None:
    model, batch = make_model().eval(), packed_batch()
    with torch.no_grad():
        model.full_sort_predict(histories(PREFIXES))
        for parameter in model.parameters():
            parameter.mul_(0.5)  # in place, without train() in between
    fresh = make_model()
    fresh.load_state_dict(model.state_dict())
    for mode in (False, True):  # without dropout both modes compute the same
        (loss,) = model.calculate_loss(batch)
        torch.testing.assert_close(loss, fresh.calculate_loss(batch)[0], rtol=1e-12, atol=1e-12)
        loss.backward()
        assert model.m2se.encoders["text"].experts.experts.weight.grad.abs().sum() > 0
        model.train(mode)


def test_no_table_is_kept_where_gradient_may_flow() -> None:
    model = make_model().eval()
    model.user_vectors(histories(PREFIXES)).sum().backward()
    assert model.m2se.encoders["text"].missing.grad is not None
    model.train()
    with torch.no_grad():
        model.user_vectors(histories(PREFIXES))
        for parameter in model.parameters():
            parameter.mul_(0.5)
        changed = model.item_vectors()
        torch.testing.assert_close(changed, torch.cat(tuple(model.item_table()), dim=-1))


# -- the backbone of a checkpoint --------------------------------------------------------------------------------------
def test_a_pretrained_backbone_arrives_whole_and_leaves_the_rest_alone() -> None:
    pretrained, model = make_model(MSM4SRPretrain), make_model()
    embedding = model.item_embedding.weight.clone()
    model.load_backbone(pretrained.state_dict())
    ours, theirs = model.m2se.state_dict(), pretrained.m2se.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(model.item_embedding.weight, embedding)


@pytest.mark.parametrize("modalities", [["text"], ["image"], ["image", "text"]])
def test_a_backbone_of_two_modalities_serves_one_or_another_order(modalities: list[str]) -> None:
    pretrained, model = make_model(MSM4SRPretrain), make_model(modalities=modalities)
    model.load_backbone(pretrained.state_dict())
    for name in modalities:
        assert torch.equal(model.m2se.encoders[name](), pretrained.m2se.encoders[name]())


def test_a_backbone_that_lacks_a_modality_is_refused() -> None:
    pretrained, model = make_model(MSM4SRPretrain, modalities=["text"]), make_model()
    with pytest.raises(ValueError, match=r"lacks m2se\.encoders\.image\."):
        model.load_backbone(pretrained.state_dict())


def test_a_checkpoint_without_a_backbone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lacks m2se\."):
        make_model().load_backbone({"item_embedding.weight": torch.zeros(4, 8)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_size": 7}, r"m2se\.encoders\.text\.attention\.w1\.weight is \[7, 6\] there, \[5, 6\] here"),
        (
            {"MAX_ITEM_LIST_LENGTH": 9},
            r"m2se\.transformer\.position_embedding\.weight is \[9, 8\] there, \[7, 8\] here",
        ),
    ],
)
def test_a_weight_of_another_shape_is_refused_by_name_and_nothing_is_loaded(
    changes: dict[str, Any], message: str
) -> None:
    pretrained, model = make_model(MSM4SRPretrain, **changes), make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        model.load_backbone(pretrained.state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_backbone_with_more_layers_is_refused() -> None:
    pretrained, model = make_model(MSM4SRPretrain, n_layers=3), make_model(n_layers=2)
    with pytest.raises(ValueError, match="layers"):
        model.load_backbone(pretrained.state_dict())
