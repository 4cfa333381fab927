"""Command lines: what a user types, and the message when it is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_msm4sr.cli import main, parse_arguments
from recbole_msm4sr.config import registry
from recbole_msm4sr.config.registry import our_models
from recbole_msm4sr.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def test_values_are_yaml_scalars() -> None:
    settings = ["--learning_rate=1e-3", "--modalities=[text]", "--use_id=false", "--topk=[5,10]", "--x=None"]
    assert parse_arguments(["--model=M", "--dataset=D", *settings]) == (
        "M",
        "D",
        [],
        {"learning_rate": 0.001, "modalities": ["text"], "use_id": False, "topk": [5, 10], "x": None},
    )


def test_values_are_never_evaluated(tmp_path: Path) -> None:
    attack = f"__import__('pathlib').Path('{tmp_path}/ran').touch()"
    assert parse_arguments(["-m", "M", "-d", "D", f"--x={attack}"])[3] == {"x": attack}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ["--config_files=a.yaml b.yaml"],
        ["--config_files=a.yaml", "b.yaml"],
        ["--config_files", "a.yaml", "b.yaml"],
    ],
)
def test_config_files_take_several_names(argv: list[str]) -> None:
    assert parse_arguments(["--model=M", "--dataset=D", *argv, "--seed=1"])[2:] == (["a.yaml", "b.yaml"], {"seed": 1})


def test_resume_is_a_flag() -> None:
    assert parse_arguments(["--model=M", "--dataset=D", "--resume"])[3] == {"resume": True}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--dataset=D"], "no model given"),
        (["--model=M"], "no dataset given"),
        (["--model=M", "--dataset=D", "--seed"], "has no value"),
        (["--model=M", "--dataset=D", "seed=1"], "cannot read the argument 'seed=1'"),
        (["--model=M", "--dataset=D", "--seed=1", "--seed=2"], "given twice"),
    ],
)
def test_a_word_that_is_not_a_setting_is_refused(argv: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_arguments(argv)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model=MSM4SR", "--dataset=nowhere"], "there is no data set dataset/nowhere/nowhere.inter"),
        (["--model=MSM4RS", "--dataset=tiny"], "did you mean MSM4SR"),
        (["comapre", "--models=SASRec"], "there is no command 'comapre'"),
        (["--model=MSM4SR", "--dataset=tiny", "--learning_rat=0.1"], "did you mean 'learning_rate'"),
        (["--model=MSM4SR", "--dataset=tiny", "--sequence_dropout=1.5"], "sequence_dropout must be"),
        (["--model=SASRec", "--dataset=tiny", "--pretrain_epochs=5"], "unknown setting 'pretrain_epochs'"),
        (["--model=MSM4SR", "--dataset=tiny", "--config_files=no.yaml"], "cannot read the configuration file no.yaml"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    # log lines may come first; the message itself is one line
    message = [line for line in error.splitlines() if line.startswith("msm4sr: error: ")]
    assert len(message) == 1
    assert words in message[0]
    assert "Traceback" not in error
    assert not Path("runs").exists(), "nothing was started"


def test_a_broken_feature_store_is_found_before_training(
    tiny_dataset: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    data_path, name = tiny_dataset
    (data_path / name / "features" / "text" / "values.npy").write_bytes(b"cut")
    assert main([f"--data_path={data_path}", "--model=MSM4SR", f"--dataset={name}"]) == 2
    error = capsys.readouterr().err
    assert "values.npy" in error
    assert "epoch" not in error


def test_a_folder_that_cannot_be_written_is_one_line(
    tiny_dataset: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    data_path, name = tiny_dataset
    assert main([f"--data_path={data_path}", "--model=SASRecM", f"--dataset={name}"]) == 2
    assert capsys.readouterr().err.startswith("msm4sr: error: [Errno ")


def test_run_recbole_is_a_script(tiny_dataset: tuple[Path, str], tmp_path: Path) -> None:
    data_path, name = tiny_dataset
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "run_recbole.py"),
            "--model=SASRecM",
            f"--dataset={name}",
            f"--data_path={data_path}",
            "--epochs=1",
            "--hidden_size=8",
        ],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "SASRecM" in done.stdout
    assert "recall@20" in done.stdout
    assert "Warning" not in done.stderr


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "--model=MODEL" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert main([]) == 2


def test_help_and_mistakes_in_words_do_not_wait_for_torch() -> None:
    words = [["--help"], ["settings", "--help"], ["clean", "--help"], ["run"], ["x"], ["--model=M"], ["settings"]]
    script = f"""
import contextlib, io, sys
from recbole_msm4sr.cli import main
for words in {words}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main(words)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("msm4sr: error: ") for line in done.stderr.splitlines())


def test_settings_shows_default_range_meaning_and_the_papers_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "MSM4SR"]) == 0
    text = capsys.readouterr().out
    assert "  cmcl_weight: 0.01   (paper: 0.01 (figure 3: 0.001 to 1))\n      lambda, weight of CMCL; a" in text
    for key in registry.find("MSM4SR").settings.model_fields:
        assert f"\n  {key}: " in text
    assert main(["settings", "MSM4RS"]) == 2


def test_clean_looks_where_runs_leave_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    left_over = Path("runs/mini/SASRec/20260101-000000")
    left_over.mkdir(parents=True)
    assert main(["clean"]) == 0
    assert str(left_over) in capsys.readouterr().out
    assert not left_over.exists()
    assert main(["clean", "nowhere"]) == 2


def test_a_message_shows_control_characters_as_escapes_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("\x1b[31mred\x07", "x" * 10**5, "a\nb", "\udc80"):
        assert main(["--model=SASRec", "--dataset=d", f"--n_layers={value}"]) == 2
        message = capsys.readouterr().err.removesuffix("\n")
        assert message.isprintable()
        assert len(message) < 500


def test_memory_that_does_not_suffice_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object) -> None:
        raise RuntimeError("[alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr("recbole_msm4sr.training.recipe.run", run)
    assert main(["--model=SASRec", "--dataset=d"]) == 2
    assert "there is not enough memory" in capsys.readouterr().err


def test_help_names_every_model_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    named = set(re.findall(r"\w+", capsys.readouterr().out))
    assert named >= set(our_models())
