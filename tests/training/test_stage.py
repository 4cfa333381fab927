"""Stages: reused when whole, trained again when damaged, resumed bit for bit, never lost however a run is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import Interrupted, interrupt_after, log_of, reused, same, script_validation, stages, weights

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.training.trainer import StageTrainer

ONE_EPOCH = {"pretrain_epochs": 1, "epochs": 1}


def stage_folder(stage: str) -> Path:
    (folder,) = Path("saved").glob(f"*/*-{stage}-*")
    return folder


# -- reuse -----------------------------------------------------------------------------------------------------------
def test_finished_stages_are_reused_when_settings_and_data_are_the_same(
    run: Any, tiny_dataset: tuple[Path, str]
) -> None:
    first, second = run("MSM4SR"), run("MSM4SR")
    assert reused(second) == [True, True]
    assert first["test_result"] == second["test_result"]
    assert reused(run("MSM4SR", learning_rate=0.01)) == [True, False]
    assert reused(run("MSM4SR", temperature=0.1)) == [False, False]
    assert reused(run("MSM4SR", reuse=False)) == [False, False]
    inter = tiny_dataset[0] / "tiny" / "tiny.inter"
    inter.write_text(inter.read_text() + "u0\ti1\t999999\n")
    assert reused(run("MSM4SR")) == [False, False]


def flip_a_bit(path: Path) -> None:
    """Where the weights are, with the time of before."""
    content, status = bytearray(path.read_bytes()), path.stat()
    weight = next(iter(torch.load(path, weights_only=True)["state_dict"].values()))
    content[content.index(weight.numpy().tobytes())] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def alter_a_weight(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    next(iter(content["state_dict"].values())).add_(1)
    torch.save(content, path)


def change_json(**changes: Any) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), **changes})) and None


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.pth", Path.unlink),
        ("model.pth", flip_a_bit),
        ("model.pth", alter_a_weight),
        ("model.pth", lambda path: path.write_bytes(b"")),
        ("stage.json", lambda path: path.write_bytes(b"")),
        ("stage.json", lambda path: path.write_bytes(path.read_bytes()[:-20])),
        ("stage.json", change_json(epochs="many")),
        ("stage.json", change_json(best_valid_result={"recall@20": None})),
        ("stage.json", change_json(weights={})),
    ],
)
def test_a_stage_whose_record_or_weights_are_damaged_is_trained_again(
    run: Any, name: str, damage: Callable[[Path], None]
) -> None:
    first = run("MSM4SR", **ONE_EPOCH)
    damage(stage_folder("pretrain") / name)
    second = run("MSM4SR", **ONE_EPOCH)
    assert reused(second) == [False, True]
    assert "the stage does not count as finished" in log_of(second)
    assert second["test_result"] == first["test_result"]
    assert reused(run("MSM4SR", **ONE_EPOCH)) == [True, True]


def test_weights_that_only_have_another_time_are_reused(run: Any) -> None:
    run("SASRecM", epochs=1)
    os.utime(stage_folder("train") / "model.pth")
    assert reused(run("SASRecM", epochs=1)) == [True]
    stored = json.loads((stage_folder("train") / "stage.json").read_text())["weights"]
    assert stored["mtime_ns"] == (stage_folder("train") / "model.pth").stat().st_mtime_ns


# -- resume ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("stage", "after"), [("pretrain", 1), ("pretrain", 2), ("finetune", 1), ("finetune", 2)])
def test_resuming_gives_bit_for_bit_what_no_interruption_gives(
    run: Any, stage: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"pretrain_epochs": 3, "epochs": 4}
    with monkeypatch.context() as patch:
        interrupt_after(after, stage, patch)
        with pytest.raises(Interrupted):
            run("MSM4SR", **settings)
    resumed = run("MSM4SR", **settings, resume=True)
    assert f"{stage}: resuming after epoch {after}" in log_of(resumed)
    whole = run("MSM4SR", **settings, reuse=False)
    assert same(weights(resumed), weights(whole))
    assert resumed["test_result"] == whole["test_result"]
    assert resumed["best_valid_result"] == whole["best_valid_result"]
    assert [s["best_epoch"] for s in stages(resumed)] == [s["best_epoch"] for s in stages(whole)]


@pytest.mark.parametrize("model", ["SASRec", "LightGCN", "GRCN", "DualGNN", "CLCRec"])  # all but SASRec draw negatives
def test_resuming_recbole_and_general_models_is_exact_too(
    run: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(2, "train", patch)
        with pytest.raises(Interrupted):
            run(model, epochs=4)
    resumed = run(model, epochs=4, resume=True)
    assert same(weights(resumed), weights(run(model, epochs=4, reuse=False)))


def test_a_model_that_learns_from_negatives_says_so_without_them(run: Any) -> None:
    with pytest.raises(UserError, match="train_neg_sample_args must not be nothing: BPR learns from negatives"):
        run("BPR", train_neg_sample_args=None)


def test_a_model_that_cannot_compute_in_bfloat16_says_so(run: Any) -> None:
    with pytest.raises(UserError, match="enable_amp: LightGCN cannot train in bfloat16 on cpu"):
        run("LightGCN", enable_amp=True)


def test_an_interrupted_stage_starts_again_unless_asked_to_resume(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(1, "pretrain", patch)
        with pytest.raises(Interrupted):
            run("MSM4SR")
    log = log_of(run("MSM4SR"))
    assert "starting again; resume=true would continue" in log
    assert "pretrain epoch 1/2" in log
    assert "nothing to resume" in log_of(run("SASRecM", epochs=1, resume=True))


def change(**changes: Any) -> Callable[[Path], None]:
    return lambda path: torch.save({**torch.load(path, weights_only=True), **changes}, path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("progress.pth", flip_a_bit),
        ("progress.pth", lambda path: path.write_bytes(b"PK")),
        ("progress.pth", change(epoch_seconds=3)),
        ("progress.pth", change(optimizer={})),
        ("progress.pth", change(random=None)),
        ("model.pth", Path.unlink),
        ("model.pth", flip_a_bit),
        ("model.pth", change(epoch=5)),
    ],
)
def test_damaged_progress_is_one_line_that_names_it(
    run: Any, name: str, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(1, "train", patch)
        with pytest.raises(Interrupted):
            run("SASRecM", epochs=2)
    damage(stage_folder("train") / name)
    message = rf"cannot be resumed \(.*{name}.*delete .*progress\.pth, or leave resume out"
    with pytest.raises(UserError, match=message if name == "model.pth" else message.replace(f"{name}.*", "")) as caught:
        run("SASRecM", epochs=2, resume=True)
    assert "\n" not in str(caught.value)
    assert run("SASRecM", epochs=2)["test_result"]


def test_a_fresh_start_without_an_epoch_leaves_the_interrupted_stage_as_it_was(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise Interrupted

    settings = {"training": "finetune", "epochs": 5}
    script_validation([0.1, 0.3, 0.2, 0.2, 0.2], monkeypatch)
    whole = run("MSM4SR", **settings, checkpoint_dir="whole")
    assert stages(whole)[0]["best_epoch"] == 2
    with monkeypatch.context() as patch:
        interrupt_after(3, "finetune", patch)
        with pytest.raises(Interrupted):
            run("MSM4SR", **settings)
    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "evaluate", die)
        with pytest.raises(Interrupted):
            run("MSM4SR", **settings)
    resumed = run("MSM4SR", **settings, resume=True)
    assert stages(resumed)[0]["best_epoch"] == 2
    assert same(weights(resumed), weights(whole))
    assert resumed["test_result"] == whole["test_result"]


# -- kills -----------------------------------------------------------------------------------------------------------
class Killed(BaseException):
    pass


def kill_at(event: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """End the process before the given rename or removal below ``saved``; a dead process does nothing more."""
    events: list[str] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            target = Path(os.fspath(arguments[-1]))
            if "saved" in target.parts and not target.name.endswith((".tmp", ".lock")):
                events.append(target.name)
            if len(events) > event:
                raise Killed
            return function(*arguments, **more)

        return call

    for name in ("replace", "unlink"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    return events


@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_stage_survives_training_again_until_its_weights_are_replaced(
    run: Any, resume: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 2, "hidden_size": 8, "eval_step": 2}
    first = run("SASRecM", **settings)
    n_events, survived = 0, []
    while True:
        with monkeypatch.context() as patch:
            events = kill_at(n_events, patch)
            try:
                run("SASRecM", **settings, reuse=False)
                break
            except Killed:
                n_events += 1
        after = run("SASRecM", **settings, resume=resume)
        survived.append((events[-1], reused(after) == [True]))
        assert after["test_result"] == first["test_result"]
        assert same(weights(after), weights(first))
    # The progress of the first epoch, the weights of the second, its progress, the record; then progress goes.
    names = ["progress.pth", "progress.pth", "model.pth", "progress.pth", "stage.json", "progress.pth"]
    assert [name for name, _ in survived] == names
    assert [is_reused for _, is_reused in survived] == [True, True, True, False, False, True]
    left = {path.name for path in stage_folder("train").iterdir() if path.suffix != ".tmp"}  # the process lives on
    assert left == {"model.pth", "stage.json", "stage.json.lock"}
