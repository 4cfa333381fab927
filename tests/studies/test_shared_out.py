"""Several processes on one ``--out``: they share the work, and survive when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

Tiny = tuple[Path, str]


def _command(tiny: Tiny, out: str, *more: str) -> list[str]:
    data_path, name = tiny
    small = ["--n_experts=2", "--attention_size=4", "--hidden_size=8", "--inner_size=16", "--use_gpu=false"]
    plan = ["--models=SASRecM,MSM4SR", f"--dataset={name}", "--seeds=1", "--trials=2", "--grid=grid.yaml"]
    folders = [f"--out={out}", f"--checkpoint_dir=saved-{out}", f"--runs_dir=runs-{out}", f"--data_path={data_path}"]
    argv = ["compare", *plan, *folders, *small, "--epochs=1", "--pretrain_epochs=20", *more]
    return [sys.executable, "-c", "import sys; from recbole_msm4sr.cli import main; sys.exit(main())", *argv]


def _start(command: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _trained(out: str) -> Counter[str]:
    """How often every stage was trained to its end, by identity; from what the runs recorded."""
    counts: Counter[str] = Counter()
    for path in Path(f"runs-{out}").rglob("metrics.json"):
        for stage in json.loads(path.read_text())["stages"]:
            counts[stage["identity"]] += not stage["reused"]
    return counts


def test_two_processes_share_one_comparison_and_a_killed_one_is_replaced(tiny_dataset: Tiny) -> None:
    Path("grid.yaml").write_text("learning_rate: [0.001, 0.01]\n")
    processes = [_start(_command(tiny_dataset, "shared")) for _ in range(2)]
    for process in processes:
        _, log = process.communicate(timeout=300)
        assert process.returncode == 0, log
    trained = _trained("shared")
    assert set(trained.values()) == {1}, "a stage, the common pre-training too, is trained by one process alone"
    assert len(trained) == 2 + 2 + 1

    doomed = _start(_command(tiny_dataset, "killed"))
    deadline = time.monotonic() + 120
    while not list(Path("saved-killed").rglob("MSM4SRPretrain*/progress.pth")):  # while it pre-trains
        assert doomed.poll() is None, doomed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    doomed.send_signal(signal.SIGKILL)
    doomed.wait()
    again = _start(_command(tiny_dataset, "killed"))
    _, log = again.communicate(timeout=300)
    assert again.returncode == 0, log
    tables = [json.loads(Path(out, "table.json").read_text()) for out in ("shared", "killed")]
    assert tables[0] == tables[1]
