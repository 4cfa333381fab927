"""Content helps on the demo data set: MSM4SR beats SASRec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import recbole_msm4sr
from dataset_prep.demo.dataset import make_demo


@pytest.fixture(scope="module")
def data_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    make_demo(folder / "demo")
    return folder


@pytest.mark.slow
def test_msm4sr_beats_sasrec_on_the_demo(data_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the settings of ``make demo``; half of the smallest margin of three seeds (docs/results.md)."""
    torch.set_num_threads(2)
    settings: dict[str, Any] = {"data_path": str(data_path)}
    sasrec = recbole_msm4sr.run("SASRec", "demo", config_dict=settings)["test_result"]
    capsys.readouterr()
    result = recbole_msm4sr.run("MSM4SR", "demo", config_dict=settings)
    msm4sr = result["test_result"]
    for metric, factor in (("recall@10", 1.14), ("ndcg@10", 1.21)):
        assert msm4sr[metric] > factor * sasrec[metric], (metric, msm4sr, sasrec)

    table = capsys.readouterr().out
    assert "demo is generated data" in table
    assert table.index("SASRec") < table.index("MSM4SR", table.index("model"))
    stages = json.loads((Path(result["run_folder"]) / "metrics.json").read_text())["stages"]
    assert [stage["stage"] for stage in stages] == ["pretrain", "finetune"]
