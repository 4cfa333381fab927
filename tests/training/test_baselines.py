"""Our baselines from data to test table: they learn, in every variant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import recbole_msm4sr
from recbole_msm4sr.config import registry
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.training import checkpoint

SMALL = {
    "hidden_size": 16,
    "MAX_ITEM_LIST_LENGTH": 10,
    "window_stride": 5,
    "train_batch_size": 64,
    "learning_rate": 0.01,
    "topk": [3, 20],
}
GENERAL = {"embedding_size": 16, "train_batch_size": 64, "learning_rate": 0.01, "topk": [3, 20]}
OWN: dict[str, dict[str, Any]] = {
    "UniSRec": {"inner_size": 32, "n_experts": 2, "pretrain_batch_size": 64, "pretrain_epochs": 2},
    "DIFSR": {"inner_size": 32, "attribute_hidden_size": 8},
    "DIF-SR": {"inner_size": 32, "attribute_hidden_size": 8},
}


@pytest.fixture
def run(tiny_dataset: tuple[Path, str]) -> Any:
    """``run(model, **settings)`` on the tiny catalogue, with attributes, and users who always take the item after."""
    data_path, name = tiny_dataset
    folder = data_path / name
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    lines += [f"u{user}\ti{(user + time) % 30}\t{time}" for user in range(60) for time in range(4 + user % 7)]
    (folder / f"{name}.inter").write_text("\n".join(lines) + "\n")
    lines = ["item_id:token\tkind:token_seq\tbrand:token\tprice:float"]
    lines += [f"i{i}\tk{i % 3} k{i % 5}\tb{i % 4}\t{i}.5" for i in range(30)]
    (folder / f"{name}.item").write_text("\n".join(lines) + "\n")

    def call(model: str, **settings: Any) -> dict[str, Any]:
        small = SMALL if registry.find(model).is_packed else GENERAL
        own = OWN.get(model.removesuffix("Pretrain"), {})
        return recbole_msm4sr.run(model, name, config_dict={"data_path": str(data_path), **small, **own, **settings})

    return call


def stages(result: dict[str, Any]) -> list[dict[str, Any]]:
    return json.loads((Path(result["run_folder"]) / "metrics.json").read_text())["stages"]


def losses_of_epoch_1(result: dict[str, Any]) -> list[str]:
    log = next(Path(result["run_folder"]).glob("*.log")).read_text()
    line = next(line for line in log.splitlines() if " epoch 1/" in line)
    return line.split(" | ")[1].split()[::2]


@pytest.mark.parametrize(
    ("model", "settings", "least"),
    [
        ("UniSRec", {}, 0.8),
        ("UniSRec", {"train_stage": "inductive_ft"}, 0.35),
        ("UniSRecPretrain", {"pretrain_epochs": 25, "pretrain_learning_rate": 0.01}, 0.35),
        ("DIFSR", {"selected_features": ["kind", "brand"]}, 0.8),
        ("DIFSR", {"selected_features": ["kind"], "modalities": ["text", "image"], "fusion_type": "concat"}, 0.8),
        ("DIFSR", {"selected_features": [], "modalities": ["text"], "fusion_type": "sum"}, 0.8),
        ("MVRNN", {}, 0.8),
        ("MVRNN", {"view_combination": "addition", "modalities": ["text"]}, 0.8),
        ("MVRNN", {"view_combination": "concatenation", "hidden_structure": "separate"}, 0.8),
        ("GRCN", {}, 0.6),
        ("GRCN", {"pruning": "hard"}, 0.6),
        ("DualGNN", {}, 0.6),
        ("CLCRec", {"n_negatives": 16, "content_weight": 0.5}, 0.6),
    ],
)
def test_baselines_learn_the_next_item(run: Any, model: str, settings: dict[str, Any], least: float) -> None:
    """By chance recall is 0.1; the tiny text, eight random numbers, hardly tells the items apart on its own."""
    ours = {"epochs": 25, "stopping_step": 25} if model != "UniSRecPretrain" else {}
    result = run(model, **ours, **settings)
    assert result["test_result"]["recall@3"] > least


def test_unisrec_pretrains_and_fine_tunes(run: Any) -> None:
    result = run("UniSRec", training="two_stage", epochs=1)
    assert [(stage["stage"], stage["model"]) for stage in stages(result)] == [
        ("pretrain", "UniSRecPretrain"),
        ("finetune", "UniSRec"),
    ]
    assert losses_of_epoch_1(result) == ["seq_item", "seq_seq"]


def test_unisrec_starts_from_a_given_checkpoint(run: Any) -> None:
    pretrained = Path(run("UniSRecPretrain", pretrain_learning_rate=0.01)["run_folder"]) / "checkpoint.pth"
    result = run("UniSRec", pretrained_path=str(pretrained), epochs=0)
    assert [stage["stage"] for stage in stages(result)] == ["finetune"]
    source = checkpoint.load(pretrained)["state_dict"]
    target = checkpoint.load(Path(result["run_folder"]) / "checkpoint.pth")["state_dict"]
    assert all(torch.equal(target[name], weight) for name, weight in source.items())


def test_difsr_predicts_its_attributes(run: Any) -> None:
    assert losses_of_epoch_1(run("DIFSR", selected_features=["kind", "brand"], epochs=1)) == ["ce", "kind", "brand"]


def test_mvrnn_restores_features_where_told_to(run: Any) -> None:
    assert losses_of_epoch_1(run("MVRNN", epochs=1)) == ["ce", "reconstruction"]
    assert losses_of_epoch_1(run("MVRNN", epochs=1, view_combination="addition")) == ["ce"]


@pytest.mark.parametrize(
    ("alias", "name", "settings"), [("DIF-SR", "DIFSR", {"selected_features": ["kind"]}), ("MV-RNN", "MVRNN", {})]
)
def test_a_name_with_a_hyphen_is_an_alias(run: Any, alias: str, name: str, settings: dict[str, Any]) -> None:
    assert Path(run(alias, epochs=1, **settings)["run_folder"]).parts[2] == name


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ("DIFSR", {}, "DIFSR needs the item attribute 'class': add the column to"),
        ("DIFSR", {"selected_features": ["price"]}, "token or token_seq; price is float"),
        ("DIFSR", {"selected_features": []}, "modalities must be a list of text and image.*unless selected_features"),
        ("DIFSR", {"attribute_hidden_size": 9}, r"attribute_hidden_size \(9\) must be a multiple of n_heads"),
        ("DIFSR", {"selected_features": "kind"}, "selected_features must be a list of columns"),
        ("MVRNN", {"modalities": []}, "modalities must be a list of text and image, such as"),
        ("MVRNN", {"view_combination": "sum"}, "must be one of concatenation, addition, reconstruction; it is 'sum'"),
        ("MVRNN", {"hidden_structure": "apart"}, "hidden_structure must be one of united, separate"),
        ("MVRNN", {"n_heads": 2}, "unknown setting 'n_heads'"),
        ("GRCN", {"modalities": []}, "modalities must be a list of text and image, such as"),
        ("GRCN", {"pruning": True}, "pruning must be one of hard, soft; it is True"),
        ("GRCN", {"n_routings": -1}, "n_routings must be a whole number, at least 0"),
        ("GRCN", {"reg_weight": -0.1}, "reg_weight must be a number, 0 or more"),
        ("GRCN", {"hidden_size": 8}, "unknown setting 'hidden_size'"),
        ("DualGNN", {"n_neighbors": 0}, "n_neighbors must be a whole number, at least 1"),
        ("DualGNN", {"embedding_size": 0}, "embedding_size must be a whole number, at least 1"),
        ("DualGNN", {"feature_size": 5}, r"not feature_size \(5\)"),
        ("CLCRec", {"content_weight": 1.5}, r"content_weight must be a number in \[0, 1\]"),
        ("CLCRec", {"replacement_prob": -1}, r"replacement_prob must be a number in \[0, 1\]"),
        ("CLCRec", {"temperature": 0}, "temperature must be a number above 0"),
        ("CLCRec", {"min_item_count": 0}, "min_item_count must be a whole number, at least 1"),
        ("CLCRec", {"n_negatives": 0}, "n_negatives must be a whole number, at least 1"),
        ("UniSRec", {"training": "e2e"}, "only MSM4SR has e2e"),
        ("UniSRec", {"train_stage": "pretrain"}, "train_stage must be one of transductive_ft, inductive_ft"),
        ("UniSRec", {"attention_size": 8}, "unknown setting 'attention_size'"),
        ("UniSRec", {"feature_storage": "disk"}, "unknown setting 'feature_storage'"),
    ],
)
def test_what_cannot_work_is_one_clear_error(run: Any, model: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        run(model, **settings)
    assert "\n" not in str(caught.value)
