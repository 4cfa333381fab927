"""The whole job on a tiny data set: stages, settings, what a run leaves behind."""

from __future__ import annotations

import inspect
import json
import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from recbole.model.sequential_recommender import SASRec
from training_runs import SMALL, log_of, reused, same, stages, weights

from recbole_msm4sr.cli import main
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.training import checkpoint, recipe


def test_a_run_pretrains_finetunes_and_tests(run: Any) -> None:
    result = run("MSM4SR")
    assert [stage["stage"] for stage in stages(result)] == ["pretrain", "finetune"]
    of_hyper_tuning = {"model", "best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"}
    assert of_hyper_tuning <= result.keys()
    names = {f"{metric}@{k}" for metric in ("recall", "ndcg") for k in (5, 10, 20)}
    assert result["test_result"].keys() == names
    assert result["best_valid_score"] == result["best_valid_result"]["recall@20"]


def test_a_run_folder_holds_settings_versions_data_metrics_log_and_checkpoint(run: Any) -> None:
    result = run("MSM4SR", seed=3)
    folder = Path(result["run_folder"])
    assert folder.parts[:3] == ("runs", "tiny", "MSM4SR")
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["seed"] == 3
    assert settings["temperature"] == 0.07
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["data"].keys() >= {"interactions", "text", "image"}
    assert json.loads((folder / "metrics.json").read_text())["test_result"] == result["test_result"]
    log = next(folder.glob("*.log")).read_text()
    assert "pretrain epoch 2/2 | nip_text " in log
    assert "pairs/s | peak" in log
    assert "\x1b[" not in log
    assert torch.load(folder / "checkpoint.pth", weights_only=True)["state_dict"]
    assert any((folder / "log_tensorboard").rglob("events*"))
    assert not Path("log_tensorboard").exists()
    assert not (folder / "lock").exists()


@pytest.mark.usefixtures("item_attributes")
@pytest.mark.parametrize("model", ["MSM4SR", "SASRec", "LightGCN", "GRCN", "S3Rec"])
def test_the_stored_settings_make_the_same_run(run: Any, model: str) -> None:
    settings = {"seed": 3, "epochs": 1, "MAX_ITEM_LIST_LENGTH": 8, "learning_rate": 0.01}
    first = run(model, **settings, **({"pretrain_epochs": 1} if model == "S3Rec" else {}))
    again = recipe.run(model, "tiny", config_file_list=[str(Path(first["run_folder"]) / "config.yaml")])
    assert len(stages(again)) == len(stages(first))
    assert all(stage["reused"] for stage in stages(again))
    assert again["test_result"] == first["test_result"]


def test_every_epoch_is_one_log_line(run: Any) -> None:
    result = run("MSM4SR")
    lines = log_of(result).splitlines()
    assert sum("epoch 1/3" in line for line in lines) == 1
    assert sum("valid recall@20" in line for line in lines) == 3


def test_logging_is_left_as_it_was(run: Any) -> None:
    before = list(logging.getLogger().handlers)
    run("SASRecM", epochs=1)
    assert logging.getLogger().handlers == before


def test_the_same_seed_gives_the_same_weights_and_metrics(run: Any) -> None:
    first, second = run("MSM4SR", reuse=False), run("MSM4SR", reuse=False)
    assert same(weights(first), weights(second))
    assert first["test_result"] == second["test_result"]
    assert not same(weights(first), weights(run("MSM4SR", seed=1)))


def test_pretraining_can_validate_and_keep_its_best_epoch(run: Any) -> None:
    pretrain = stages(run("MSM4SR", pretrain_eval_step=1, pretrain_epochs=3))[0]
    assert pretrain["best_epoch"] in (1, 2, 3)
    assert pretrain["best_valid_result"]["recall@20"] == pretrain["best_valid_score"]


def test_pretraining_alone_runs_to_a_test_table(run: Any) -> None:
    result = run("MSM4SRPretrain")
    assert [stage["stage"] for stage in stages(result)] == ["pretrain"]
    assert result["test_result"]["recall@20"] > 0


def test_finetuning_starts_from_a_given_checkpoint_of_another_data_set(run: Any) -> None:
    pretrained = Path(run("MSM4SRPretrain", seed=5)["run_folder"]) / "checkpoint.pth"
    result = run("MSM4SR", pretrained_path=str(pretrained), epochs=0)
    assert [stage["stage"] for stage in stages(result)] == ["finetune"]
    source, target = checkpoint.load(pretrained)["state_dict"], weights(result)
    shared = [name for name in target if name.startswith("m2se.")]
    assert shared
    assert all(torch.equal(source[name], target[name]) for name in shared)


def test_a_frozen_transformer_stays_as_it_was_pretrained_while_the_rest_learns(run: Any) -> None:
    pretrained = Path(run("MSM4SRPretrain")["run_folder"]) / "checkpoint.pth"
    source = checkpoint.load(pretrained)["state_dict"]
    target = weights(run("MSM4SR", pretrained_path=str(pretrained), freeze_transformer=True, epochs=1))
    moved = {name: not torch.equal(source[name], target[name]) for name in target if name.startswith("m2se.")}
    assert not any(moved[name] for name in moved if name.startswith("m2se.transformer."))
    assert moved["m2se.encoders.text.experts.experts.weight"]


@pytest.mark.parametrize(
    ("settings", "losses"),
    [
        ({"training": "finetune"}, {"finetune": ["ce"]}),
        ({"pretrain_epochs": 0}, {"finetune": ["ce"]}),
        ({"training": "e2e"}, {"e2e": ["ce", "nip_text", "nip_image", "cmcl_text", "cmcl_image"]}),
        ({"use_nip": False}, {"pretrain": ["cmcl_text", "cmcl_image"], "finetune": ["ce"]}),
        ({"use_cmcl": False}, {"pretrain": ["nip_text", "nip_image"], "finetune": ["ce"]}),
        ({"use_mixup": False}, {"pretrain": ["nip_text", "nip_image", "cmcl_text", "cmcl_image"], "finetune": ["ce"]}),
        ({"modalities": ["text"]}, {"pretrain": ["nip_text"], "finetune": ["ce"]}),
        ({"modalities": ["image"]}, {"pretrain": ["nip_image"], "finetune": ["ce"]}),
        (
            {"modalities": ["text"], "pretrain_modalities": ["text", "image"]},
            {"pretrain": ["nip_text", "nip_image", "cmcl_text", "cmcl_image"], "finetune": ["ce"]},
        ),
        ({"use_id": False, "similarity": "cosine"}, {"pretrain": ["nip_text", "nip_image", "cmcl_text", "cmcl_image"]}),
        ({"train_mode": "prefix"}, {"finetune": ["ce"]}),
    ],
)
def test_the_switches_of_tables_iii_and_iv_run(
    run: Any, settings: dict[str, Any], losses: dict[str, list[str]]
) -> None:
    result = run("MSM4SR", **{"pretrain_epochs": 1, "epochs": 1, **settings})
    log = log_of(result)
    for stage, names in losses.items():
        line = next(line for line in log.splitlines() if f"{stage} epoch 1/1" in line)
        logged = line.split(" | ")[1].split()[::2]
        assert logged == names
    if "training" in settings or settings.get("pretrain_epochs") == 0:
        assert len(stages(result)) == 1
    starts = {"training": "finetune"}, {"pretrain_epochs": 0}
    assert ("from scratch; no stage 1 is run" in log) == (settings in starts)


def test_mp4sr_is_msm4sr(run: Any) -> None:
    assert Path(run("MP4SR", pretrain_epochs=1, epochs=1)["run_folder"]).parts[2] == "MSM4SR"


def test_the_table_shows_the_latest_run_of_other_models_on_the_same_data(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run("SASRec", epochs=1)
    run("SASRec", epochs=1, MAX_ITEM_LIST_LENGTH=5)  # evaluated on other inputs: not comparable
    capsys.readouterr()
    run("MSM4SR", pretrain_epochs=1, epochs=1, MAX_ITEM_LIST_LENGTH=50, window_stride=25, seed=7)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("SASRec ", "MSM4SR "))]
    assert [row[:2] for row in rows] == [["SASRec", "2020"], ["MSM4SR", "7"]], "each with its own seed"


@pytest.mark.parametrize("model", ["GRU4Rec", "BERT4Rec", "SINE", "LightGCN"])
def test_recbole_models_run_to_a_test_table(run: Any, model: str) -> None:
    assert run(model, epochs=1)["test_result"].keys() >= {"recall@20", "ndcg@20"}


@pytest.fixture
def item_attributes(tiny_dataset: tuple[Path, str]) -> None:
    lines = ["item_id:token\tclass:token_seq"] + [f"i{i}\tc{i % 3} c{i % 5}" for i in range(30)]
    (tiny_dataset[0] / "tiny" / "tiny.item").write_text("\n".join(lines) + "\n")


@pytest.mark.usefixtures("item_attributes")
def test_models_with_item_attributes_run_to_a_test_table(run: Any) -> None:
    """RecBole lists one of FDSA's submodules among its other parameters; a safe checkpoint cannot hold a module."""
    assert run("FDSA", epochs=1)["test_result"].keys() >= {"recall@20"}


def test_models_that_do_not_rank_items_are_refused(run: Any) -> None:
    with pytest.raises(UserError, match="KGAT is one of RecBole's knowledge models"):
        run("KGAT")


@pytest.mark.usefixtures("item_attributes")
def test_s3rec_runs_both_stages_and_from_a_given_model(run: Any) -> None:
    both = run("S3Rec", pretrain_epochs=1, epochs=1)
    assert [stage["stage"] for stage in stages(both)] == ["pretrain", "finetune"]
    first = run("S3Rec", pretrain_epochs=1, epochs=1, train_stage="pretrain")
    model_file = Path(first["run_folder"]) / "checkpoint.pth"
    second = run("S3Rec", epochs=1, train_stage="finetune", pre_model_path=str(model_file))
    assert second["test_result"] == both["test_result"]
    with pytest.raises(UserError, match="set pre_model_path"):
        run("S3Rec", epochs=1, train_stage="finetune")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pretrained_path": "nowhere.pth"}, "no checkpoint nowhere.pth"),
        ({"training": "e2e", "pretrained_path": "x.pth"}, "e2e starts from scratch"),
        ({"training": "finetune", "pretrained_path": "x.pth"}, "finetune starts from scratch"),
        ({"hidden_size": 6, "n_heads": 4}, "multiple of n_heads"),
        ({"learning_rate": 1e30}, "the training loss became"),
    ],
)
def test_what_cannot_work_is_one_clear_error(run: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        run("MSM4SR", **settings)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_other_sizes_says_which_weight_differs(run: Any) -> None:
    pretrained = Path(run("MSM4SRPretrain", hidden_size=16)["run_folder"]) / "checkpoint.pth"
    with pytest.raises(UserError, match=r"does not fit MSM4SR: m2se\..* is \[16\] there, \[8\] here"):
        run("MSM4SR", pretrained_path=str(pretrained))


def test_a_settings_file_and_its_own_recipe_agree(run: Any, tmp_path: Path, tiny_dataset: tuple[Path, str]) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"data_path": str(tiny_dataset[0]), **SMALL, "seed": 9}))
    from_file = recipe.run("MSM4SR", "tiny", config_file_list=["a.yaml"])
    assert from_file["test_result"] == run("MSM4SR", seed=9, reuse=False)["test_result"]


@pytest.mark.parametrize("model", ["SASRecM", "GRU4Rec"])
def test_the_last_epoch_is_validated_however_seldom_others_are(run: Any, model: str) -> None:
    """Otherwise a stage of fewer epochs than eval_step would keep its initial weights."""
    [*_, last] = stages(run(model, epochs=3, eval_step=2))
    assert last["epochs"] == 3
    assert last["best_epoch"] in (2, 3)
    [*_, last] = stages(run(model, epochs=2, eval_step=5))
    assert last["best_epoch"] == 2


def test_the_table_says_how_models_were_tested(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("SASRecM", epochs=1)
    assert "test on tiny, leave-one-out, all items ranked\n" in capsys.readouterr().out
    run("SASRecM", epochs=1, eval_target_below=10)
    assert "all items ranked, users whose target has fewer than 10 training interactions\n" in capsys.readouterr().out


class Own(SASRec):
    """A user's own model."""

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        return 2 * super().calculate_loss(interaction)


def test_a_class_of_ones_own_runs_and_its_code_is_part_of_the_stage(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(Own, epochs=1)["model"] == "Own"
    assert reused(run(Own, epochs=1)) == [True]
    monkeypatch.setattr(inspect, "getsource", lambda kind: "class Own: other code")
    assert reused(run(Own, epochs=1)) == [False]


def test_ctrl_c_is_one_line(tiny_dataset: tuple[Path, str]) -> None:
    command = [sys.executable, "-c", "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "]
    command[-1] += "from recbole_msm4sr.cli import main; sys.exit(main(sys.argv[1:]))"
    settings = ["--model=SASRecM", "--dataset=tiny", f"--data_path={tiny_dataset[0]}", "--epochs=100000"]
    started = subprocess.Popen([*command, *settings, "--stopping_step=100000"], stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    for line in started.stderr:
        if "epoch 2/" in line:
            break
    started.send_signal(signal.SIGINT)
    lines = [line for line in started.stderr.read().splitlines() if " epoch " not in line]
    assert started.wait() == 130
    assert lines == ["msm4sr: interrupted; the same command with --resume goes on where it stopped"]
    assert main(["clean", "runs", "saved"]) == 0
    assert list(Path("runs/tiny/SASRecM").iterdir()) == []


@pytest.mark.parametrize("model", ["RaCT", "ConvNCF"])
def test_a_checkpoint_that_does_not_exist_is_said_before_training(tiny_dataset: tuple[Path, str], model: str) -> None:
    data_path, name = tiny_dataset
    settings = {"data_path": str(data_path), "use_gpu": False, "pre_model_path": "nowhere.pth"}
    with pytest.raises(UserError, match=r"there is no checkpoint nowhere\.pth"):
        recipe.run(model, name, config_dict=settings)
