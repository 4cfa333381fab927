"""Config: typos and impossible values are errors, nothing is evaluated, and later sources win."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from configs import make, refusal
from recbole.utils import ModelType

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.config.yaml_file import PROPERTIES, parse_scalar, read_yaml
from recbole_msm4sr.core.errors import UserError


@pytest.fixture
def yaml_file(tmp_path: Path) -> Any:
    def write(text: str, name: str = "given.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


# --- unknown keys


@pytest.mark.parametrize(
    ("model", "typo", "near"),
    [
        ("SASRec", "learning_rat", "learning_rate"),
        ("MSM4SR", "pretrain_epoch", "pretrain_epochs"),
        ("MSM4SR", "simlarity", "similarity"),
        ("LightGCN", "train_batchsize", "train_batch_size"),
        ("MSM4SR", "datapath", "data_path"),
    ],
)
def test_a_typo_in_a_key_names_the_key_that_was_meant(model: str, typo: str, near: str) -> None:
    message = refusal(model, **{typo: 1})
    assert f"unknown setting {typo!r} for {model}" in message
    assert f"did you mean {near!r}?" in message


def test_a_key_like_no_other_is_refused_without_a_guess() -> None:
    assert refusal("MSM4SR", qqqqqq=1) == "unknown setting 'qqqqqq' for MSM4SR"


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("SASRec", "similarity"),
        ("SASRec", "pretrain_epochs"),
        ("GRU4Rec", "n_heads"),
        ("SASRecM", "temperature"),
        ("MSM4SR", "train_neg_sample_args"),
        ("MSM4SR", "shuffle"),
        ("SASRecM", "reg_weight"),
        ("DIFSR", "transform"),
    ],
)
def test_keys_of_other_models_are_refused_as_settings_but_allowed_in_files(
    model: str, key: str, yaml_file: Any
) -> None:
    assert f"unknown setting {key!r} for {model}: other models read it, {model} does not" in refusal(model, **{key: 1})
    make(model, files=[yaml_file(f"{key}: 1\n")])


def test_a_key_that_no_model_reads_is_refused_in_files_too(yaml_file: Any) -> None:
    with pytest.raises(UserError, match="unknown setting 'learning_rat' for SASRec; did you mean 'learning_rate'"):
        make("SASRec", files=[yaml_file("learning_rat: 0.1\n")])


def test_a_stage_drops_what_it_does_not_read() -> None:
    config = Config("MSM4SRPretrain", "mine", None, {"similarity": "dot", "pretrain_epochs": 3}, drop_unread=True)
    assert "similarity" not in config.external_config_dict
    assert config["epochs"] == 3


def test_a_file_that_switches_a_loss_of_msm4sr_off_can_be_shared_with_sasrecm(yaml_file: Any) -> None:
    shared = yaml_file("use_nip: false\n")
    assert make("MSM4SR", files=[shared])["use_nip"] is False
    make("SASRecM", files=[shared])


# --- impossible values


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("learning_rate", 0, "a number above 0"),
        ("learning_rate", "0.1", "a number above 0"),
        ("learning_rate", True, "a number above 0"),
        ("epochs", 3.0, "a whole number, at least 0"),
        ("hidden_dropout_prob", 1, r"a number in [0, 1)"),
        ("mixup_max", 0.6, "a number in [0, 0.5]"),
        ("cmcl_weight", -1, "a number, 0 or more"),
        ("similarity", "cos", "one of dot, cosine"),
        ("clip_grad_norm", 1.0, "a mapping such as {max_norm: 5, norm_type: 2}, or nothing"),
        ("clip_grad_norm", {"max_norm": 5, "nrom_type": 2}, "a mapping such as"),
        ("state", "verbose", "one of debug, info, warning, error, critical"),
        ("use_id", 0, "true or false"),
        ("modalities", [], "a list of text and image"),
        ("modalities", ["text", "text"], "a list of text and image"),
        ("pretrain_modalities", ["image", "sound"], "a list of text and image"),
        ("seed", -1, "a whole number in [0, 2^32)"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_it_may_be(key: str, value: Any, words: str) -> None:
    message = refusal("MSM4SR", **{key: value})
    assert message.startswith(f"{key} must be {words}")
    assert message.endswith(f"; it is {value!r}")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hidden_size": 65}, r"hidden_size (65) must be a multiple of n_heads (2)"),
        ({"window_stride": 51}, "window_stride (51) must not exceed MAX_ITEM_LIST_LENGTH (50)"),
        (
            {"MAX_ITEM_LIST_LENGTH": 10, "window_stride": 25},
            "window_stride (25) must not exceed MAX_ITEM_LIST_LENGTH (10)",
        ),
        ({"use_nip": False, "use_cmcl": False}, "nothing is left to learn"),
        ({"use_nip": False, "modalities": ["text"]}, "nothing is left to learn"),
        (
            {"use_nip": False, "training": "e2e", "modalities": ["text"], "pretrain_modalities": ["text", "image"]},
            "nothing is left to learn",
        ),
        ({"metrics": ["Recall", "AUC"]}, "metrics must be a list of metrics of rankings"),
        ({"metrics": ["Recal"]}, "metrics must be a list of metrics of rankings"),
        ({"topk": [5, 0]}, "topk must be a list of distinct whole numbers from 1"),
        ({"topk": [5, 5]}, "topk must be a list of distinct whole numbers from 1"),
        ({"eval_args": 3}, "eval_args must be a mapping; it is 3"),
        ({"eval_args": {"splt": {"RS": [8, 1, 1]}}}, "unknown setting 'splt' in eval_args; did you mean 'split'?"),
        (
            {"pretrain_modalities": ["text"]},
            "pretrain_modalities (['text']) must include all modalities of fine-tuning: image is missing",
        ),
        ({"freeze_transformer": True, "training": "finetune"}, "a transformer that nothing has trained"),
        ({"freeze_transformer": True, "pretrain_epochs": 0}, "a transformer that nothing has trained"),
        ({"freeze_transformer": True, "training": "e2e"}, "a transformer that nothing has trained"),
        ({"data_path": None}, "data_path must be text on one line; it is None"),
    ],
)
def test_settings_that_do_not_agree_are_refused(settings: dict[str, Any], words: str) -> None:
    assert words in refusal("MSM4SR", **settings)


def test_nothing_is_asked_of_losses_that_are_not_used() -> None:
    make("MSM4SR", use_nip=False, use_cmcl=False, training="finetune")
    make("MSM4SR", use_nip=False)


@pytest.mark.parametrize("metric", ["Recall@7", "Bogus@20", "MRR@20"])
def test_a_valid_metric_that_is_not_computed_is_refused(metric: str) -> None:
    refusal("MSM4SR", valid_metric=metric)


def test_a_logger_that_is_not_installed_is_missed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_msm4sr.config.load.find_spec", lambda _: None)
    for model in ("MSM4SR", "SASRec"):
        assert "needs the package wandb" in refusal(model, log_wandb=True)


# --- values as text


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch pwned')",
        "open('pwned', 'w')",
        "!!python/object/apply:os.system ['touch pwned']",
        "!!python/name:os.system",
    ],
)
def test_values_are_never_evaluated(text: str, yaml_file: Any, tmp_path: Path) -> None:
    assert parse_scalar(text) == text
    assert make("SASRec", checkpoint_dir=text)["checkpoint_dir"] == text
    path = yaml_file(f"checkpoint_dir: {text}\n")
    if text.startswith("!!"):
        with pytest.raises(UserError, match="is not YAML"):
            make("SASRec", files=[path])
    else:
        assert make("SASRec", files=[path])["checkpoint_dir"] == text
    assert not (tmp_path / "pwned").exists()


# --- sources


def test_dict_wins_over_files_files_over_properties_and_later_files_over_earlier(yaml_file: Any) -> None:
    assert make("MSM4SR")["epochs"] == read_yaml(PROPERTIES / "overall.yaml")["epochs"]
    first = yaml_file("epochs: 3\nseed: 3\nlearning_rate: 1e-2\n", "first.yaml")
    second = yaml_file("epochs: 4\nseed: 4\n", "second.yaml")
    config = make("MSM4SR", files=[first, second], epochs=5)
    assert (config["epochs"], config["seed"], config["learning_rate"]) == (5, 4, 0.01)


def test_model_properties_win_over_the_overall_ones_and_recboles() -> None:
    ours = read_yaml(PROPERTIES / "model" / "Packed.yaml")
    assert make("MSM4SR")["train_batch_size"] == ours["train_batch_size"]
    assert make("SASRec")["MAX_ITEM_LIST_LENGTH"] == 50


def test_dataset_properties_count_only_where_the_model_reads_them() -> None:
    own = read_yaml(PROPERTIES / "dataset" / "demo.yaml")
    assert make("MSM4SR", dataset="demo", window_stride=10)["MAX_ITEM_LIST_LENGTH"] == own["MAX_ITEM_LIST_LENGTH"]
    assert "pretrain_epochs" not in make("SASRec", dataset="demo")


def test_the_process_arguments_are_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--epochs=7", "--learning_rat=1", "--model=GRU4Rec", "tests"])
    config = make("SASRec", epochs=2)
    assert (config["epochs"], config["model"]) == (2, "SASRec")
    assert "learning_rat" not in config


def test_the_given_dict_is_left_as_it_was() -> None:
    given = {"epochs": 2, "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}}
    before = repr(given)
    Config("MSM4SR", "mine", None, given)
    assert repr(given) == before


# --- models


@pytest.mark.parametrize("model", ["SASRec", "LightGCN", "MSM4SR", "GRU4Rec", "BPR", "S3Rec", "GRCN"])
def test_every_model_is_evaluated_in_the_same_way(model: str) -> None:
    config = make(model)
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert config["eval_args"]["order"] == "TO"
    assert config["eval_args"]["mode"] == {"valid": "full", "test": "full"}
    assert (config["metrics"], config["topk"]) == (["Recall", "NDCG"], [5, 10, 20])
    assert config["valid_metric"] == "Recall@20"


def test_cross_entropy_models_need_no_negatives_and_general_ones_keep_theirs() -> None:
    assert make("SASRec")["train_neg_sample_args"]["distribution"] == "none"
    assert make("SASRec", loss_type="BPR")["train_neg_sample_args"]["distribution"] == "uniform"
    for model in ("LightGCN", "GRCN", "DualGNN"):
        assert make(model)["train_neg_sample_args"]["distribution"] == "uniform"
        assert make(model)["MODEL_TYPE"] == ModelType.GENERAL
    assert make("CLCRec")["train_neg_sample_args"]["distribution"] == "none"  # it draws its own


def test_item_attributes_that_a_model_asks_for_are_loaded() -> None:
    assert make("S3Rec")["load_col"]["item"] == ["item_id", "class"]
    assert make("S3Rec", item_attribute="brand")["load_col"]["item"] == ["item_id", "brand"]
    assert "item" not in make("SASRec")["load_col"]
    assert make("S3Rec", load_col={"inter": ["user_id"]})["load_col"] == {"inter": ["user_id"]}


# --- paths


def test_ml_100k_is_recboles_copy_unless_the_data_path_has_one(tmp_path: Path) -> None:
    shipped = Path(make("SASRec", dataset="ml-100k", data_path=str(tmp_path))["data_path"])
    assert shipped.resolve().parts[-3:] == ("recbole", "dataset_example", "ml-100k")
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    assert make("SASRec", dataset="ml-100k", data_path=str(tmp_path))["data_path"] == os.fspath(shipped)
    (folder / "ml-100k.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n")
    assert make("SASRec", dataset="ml-100k", data_path=str(tmp_path))["data_path"] == os.fspath(folder)


def test_feature_stores_lie_in_the_data_set_folder_unless_said_otherwise(tmp_path: Path) -> None:
    config = make("MSM4SR", data_path=str(tmp_path))
    assert config["data_path"] == os.fspath(tmp_path / "mine")
    assert config["feature_path"] == os.fspath(tmp_path / "mine" / "features")
    assert make("MSM4SR", feature_path="elsewhere")["feature_path"] == "elsewhere"
    at_ml_100k = make("MSM4SR", dataset="ml-100k", data_path=str(tmp_path))
    assert at_ml_100k["feature_path"] == os.fspath(tmp_path / "ml-100k" / "features")  # never inside RecBole


def test_the_cpu_is_used_when_no_gpu_is_wanted() -> None:
    assert make("MSM4SR", use_gpu=False)["device"].type == "cpu"


def test_the_window_stride_is_half_of_the_longest_input_unless_given() -> None:
    assert Config("MSM4SR", "tiny")["window_stride"] == 25
    assert Config("MSM4SR", "tiny", config_dict={"MAX_ITEM_LIST_LENGTH": 7})["window_stride"] == 4


def test_a_part_of_eval_args_does_not_undo_the_rest() -> None:
    config = Config("LightGCN", "tiny", config_dict={"eval_args": {"mode": "uni100"}})
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert config["eval_args"]["order"] == "TO"
