"""``msm4sr compare`` with our general models among its rows."""

from __future__ import annotations

import json
from pathlib import Path

from recbole_msm4sr.cli import main


def test_general_models_are_tuned_and_tested_beside_sequential_ones(tiny_dataset: tuple[Path, str]) -> None:
    data_path, name = tiny_dataset
    models = ["LightGCN", "GRCN", "DualGNN", "CLCRec", "SASRecM"]
    Path("grid.yaml").write_text("learning_rate: [0.001, 0.01]\nweight_decay: [0.0001, 0.001]\n")
    words = [f"--models={','.join(models)}", f"--dataset={name}", "--grid=grid.yaml", "--trials=2", "--seeds=1"]
    words += ["--epochs=1", "--use_gpu=false", f"--data_path={data_path}", "--out=out", "--CLCRec.n_negatives=5"]
    assert main(["compare", *words]) == 0
    rows = json.loads(Path("out/report.json").read_text())["rows"]
    assert [row["label"] for row in rows] == models
    assert all(set(row["chosen"]) == {"learning_rate", "weight_decay"} for row in rows)
    tests = json.loads(Path("out/table.json").read_text())
    assert all(0 <= row["p_value"] <= 1 for row in tests)  # users are paired across kinds of models
    assert {row["model"] for row in tests} == set(models)
