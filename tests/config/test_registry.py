"""Models by name, by alias and by class: their stages, and which of their keys a stage reads under RecBole's names."""

from __future__ import annotations

from typing import Any

import pytest
from configs import make, refusal
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.model.sequential_recommender import SASRec

from recbole_msm4sr.config import registry
from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.model.msm4sr import MSM4SR


def test_stage_one_reads_its_own_keys_under_recboles_names() -> None:
    given = {
        "pretrain_epochs": 7,
        "pretrain_learning_rate": 0.5,
        "pretrain_batch_size": 99,
        "pretrain_weight_decay": 0.25,
        "pretrain_eval_step": 2,
        "pretrain_stopping_step": 3,
    }
    config = make("MSM4SRPretrain", **given)
    names = ("epochs", "learning_rate", "train_batch_size", "weight_decay", "eval_step", "stopping_step")
    assert [config[name] for name in names] == list(given.values())
    two_stage = make("MSM4SR", **given)
    assert two_stage["epochs"] != 7
    assert two_stage["train_batch_size"] != 99


@pytest.mark.parametrize("key", ["epochs", "train_batch_size", "eval_step", "stopping_step"])
def test_stage_one_on_its_own_also_takes_recboles_names_but_its_own_win(key: str) -> None:
    own = registry.find("MSM4SRPretrain").stage_keys[key]
    config = make("MSM4SRPretrain", **{key: 7})
    assert (config[key], config[own]) == (7, 7)
    config = make("MSM4SRPretrain", **{key: 7, own: 8})
    assert (config[key], config[own]) == (8, 8)


def test_stage_one_of_a_recipe_ignores_the_settings_of_stage_two() -> None:
    default = make("MSM4SR")["pretrain_epochs"]
    config = Config("MSM4SRPretrain", "mine", None, {"epochs": 7}, drop_unread=True)
    assert config["epochs"] == config["pretrain_epochs"] == default


def test_stage_one_uses_the_modalities_of_its_own_where_given() -> None:
    assert make("MSM4SRPretrain", modalities=["text"])["modalities"] == ["text"]
    config = make("MSM4SRPretrain", modalities=["text"], pretrain_modalities=["text", "image"])
    assert config["modalities"] == ["text", "image"]
    assert make("MSM4SR", modalities=["text"], pretrain_modalities=["text", "image"])["modalities"] == ["text"]


@pytest.mark.parametrize(("alias", "name"), [("MP4SR", "MSM4SR"), ("MP4SRPretrain", "MSM4SRPretrain")])
def test_the_methods_later_name_is_an_alias(alias: str, name: str) -> None:
    assert make(alias)["model"] == name
    assert registry.find(alias) is registry.find(name)


@pytest.mark.parametrize(
    ("wrong", "right"), [("Sasrec", "SASRec"), ("msm4sr", "MSM4SR"), ("LightGCM", "LightGCN"), ("S3Recc", "S3Rec")]
)
def test_an_unknown_model_suggests_the_nearest_one(wrong: str, right: str) -> None:
    message = refusal(wrong)
    assert f"there is no model {wrong!r}: did you mean " in message
    assert right in message


def test_a_model_like_no_other_lists_ours() -> None:
    assert refusal("qqqqqq").endswith(
        "ours are MSM4SRPretrain, MSM4SR, SASRecM, UniSRecPretrain, UniSRec, DIFSR, MVRNN, GRCN, DualGNN, CLCRec"
    )


# --- classes


class OwnSASRec(SASRec):  # type: ignore[misc]
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.bonus = config["bonus"]


class OwnMSM4SR(MSM4SR):
    pass


class Own(SequentialRecommender):  # type: ignore[misc]
    def __init__(self, config: Any, dataset: Any) -> None:
        self.width, self.loss_type = config["width"], config["loss_type"]


def test_a_class_is_found_with_the_settings_of_what_it_derives_from_and_those_it_reads() -> None:
    config = Config(OwnSASRec, "mine", None, {"bonus": 3, "hidden_size": 32})
    assert (config["model"], config["bonus"], config["n_heads"]) == ("OwnSASRec", 3, 2)
    with pytest.raises(UserError, match="unknown setting 'bonuss' for OwnSASRec; did you mean 'bonus'"):
        Config(OwnSASRec, "mine", None, {"bonuss": 3})
    with pytest.raises(UserError, match="hidden_size must be a whole number"):
        Config(OwnSASRec, "mine", None, {"hidden_size": "wide"})
    assert Config(Own, "mine", None, {"width": 3, "loss_type": "CE"})["width"] == 3
    assert registry.find(SASRec) == registry.find("SASRec")
    ours = Config(OwnMSM4SR, "mine").spec
    assert (ours.name, ours.base, ours.first_stage, ours.is_packed) == ("OwnMSM4SR", "MSM4SR", "MSM4SRPretrain", True)
    assert ours.model_class is OwnMSM4SR


@pytest.mark.parametrize("model", [int, 5, None, ["SASRec"]])
def test_what_is_not_a_model_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match="model"):
        Config(model, "mine")
