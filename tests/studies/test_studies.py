"""``msm4sr study``: the paper's experiments run from end to end on a tiny data set, with the expected rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.axes import Axes

from recbole_msm4sr.cli import main
from recbole_msm4sr.data.feature_store import FeatureStore
from recbole_msm4sr.evaluation.user_ranks import UserRanks

SMALL = [
    *("--pretrain_epochs=1", "--epochs=1", "--attention_size=4", "--use_gpu=false"),
    *("--hidden_size=8", "--inner_size=16", "--trials=0", "--seeds=1", "--out=out"),
]


def _study(tiny_dataset: tuple[Path, str], name: str, *more: str) -> dict[str, Any]:
    data_path, dataset = tiny_dataset
    assert main(["study", name, f"--dataset={dataset}", f"--data_path={data_path}", *SMALL, *more]) == 0
    return json.loads(Path("out/report.json").read_text())


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("ablation", ["w/o NIP", "w/o CMCL", "w/o mixup", "w/o pre-training", "end-to-end", "MSM4SR"]),
        ("modality", ["V", "T", "MSM4SR"]),
        ("user-groups", ["SASRec", "SASRecM", "MSM4SR"]),
    ],
)
def test_studies_have_the_papers_rows(tiny_dataset: tuple[Path, str], name: str, labels: list[str]) -> None:
    report = _study(tiny_dataset, name)
    assert [row["label"] for row in report["rows"]] == labels
    for row in report["rows"]:
        assert row["configuration"]["learning_rate"] == 0.001, "defaults included"
        assert row["data"]["interactions"] == report["data"]["interactions"]
        assert row["versions"][0]["torch"]
        assert Path(row["run_folders"][0], "config.yaml").is_file()


def test_sensitivity_draws_the_metric_against_every_setting(
    tiny_dataset: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[list[float], list[float]]] = []
    original = Axes.errorbar

    def recording(self: Axes, x: Any, y: Any, *args: Any, **kwargs: Any) -> Any:
        drawn.append((list(x), list(y)))
        return original(self, x, y, *args, **kwargs)

    monkeypatch.setattr(Axes, "errorbar", recording)
    report = _study(tiny_dataset, "sensitivity", "--sequence_dropout=0.2", "--cmcl_weight=0.01")
    mean = {row["label"]: row["test_results"][0]["recall@20"] for row in report["rows"]}
    labels = (
        ["lambda = 0.001", "MSM4SR", "lambda = 0.1", "lambda = 1.0"],
        ["O = 1", "O = 2", "O = 4", "MSM4SR", "O = 16"],
        ["rho = 0.0", "rho = 0.1", "MSM4SR", "rho = 0.3", "rho = 0.4", "rho = 0.5"],
    )
    assert drawn == [(list(range(len(row))), [mean[label] for label in row]) for row in labels]


def test_the_papers_gains_stand_beside_ours(tiny_dataset: tuple[Path, str]) -> None:
    report = _study(tiny_dataset, "ablation")
    lines = [line.split("|") for line in Path("out/table.md").read_text().splitlines()]
    found = {(cells[1].strip(), cells[2].strip()): [cell.strip() for cell in cells[3:-1]] for cells in lines[-32:]}
    own, other = (
        next(row["test_results"][0]["ndcg@20"] for row in report["rows"] if row["label"] == label)
        for label in ("MSM4SR", "w/o NIP")
    )
    assert found["w/o NIP", "ndcg@20"] == [f"{own / other - 1:+.2%}", "+27.78%", "+24.25%"]  # .0414/.0324, .0866/.0697


def test_cold_start_chooses_and_tests_by_users_whose_target_is_rare(tiny_dataset: tuple[Path, str]) -> None:
    report = _study(tiny_dataset, "cold-start")
    assert [row["label"] for row in report["rows"]] == ["CLCRec", "w/o pre-training", "UniSRec", "MSM4SR"]
    for row in report["rows"]:
        assert row["configuration"]["eval_target_below"] == 10
        ranks = UserRanks.load(Path(row["run_folders"][0], "test_ranks.npz"))
        assert 0 < len(ranks.user) < 40
        assert ranks.target_count.max() < 10
        assert row["test_results"][0]["recall@20"] == pytest.approx(ranks.metric("recall@20").mean())
    assert "users whose target has fewer than 10 training interactions" in Path("out/table.md").read_text()


def test_cross_domain_starts_from_the_other_data_set(tiny_dataset: tuple[Path, str]) -> None:
    data_path, dataset = tiny_dataset
    shutil.copytree(data_path / dataset, data_path / "other")
    (data_path / "other" / f"{dataset}.inter").rename(data_path / "other" / "other.inter")
    common, of_row = ["--train_batch_size=64", "--learning_rate=0.01"], ["--MSM4SR.inner_size=12"]
    report = _study(tiny_dataset, "cross-domain", "--source=other", *common, *of_row)
    of_stage_1 = [yaml.safe_load(path.read_text()) for path in Path("runs/other").glob("*/*/config.yaml")]
    assert len(of_stage_1) == 2
    assert sorted(settings["inner_size"] for settings in of_stage_1) == [12, 16]
    for settings in of_stage_1:
        assert settings["learning_rate"] == 0.001, "fine-tuning's settings are not those of stage 1"
        assert settings["train_batch_size"] == 1024
    paths = {row["label"]: row["settings"].get("pretrained_path") for row in report["rows"]}
    assert "other/MSM4SRPretrain/" in paths["MSM4SR"]
    assert "other/UniSRecPretrain/" in paths["UniSRec"]
    assert paths["w/o pre-training"] is None


def test_cross_domain_needs_a_source_and_features_of_one_length(
    tiny_dataset: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    data_path, dataset = tiny_dataset
    argv = ["study", "cross-domain", f"--dataset={dataset}", f"--data_path={data_path}", *SMALL]
    assert main(argv) == 2
    assert "give --source=DATASET" in capsys.readouterr().err
    for wrong in (["--UniSrec.epochs=1"], ["--seeds=0"], ["--epohcs=1"], ["--trials=2", "--grid=nowhere.yaml"]):
        assert main([*argv, "--source=other", *wrong]) == 2
    assert not Path("runs").exists(), "mistakes are found before stage 1"
    shutil.copytree(data_path / dataset, data_path / "other")
    (data_path / "other" / f"{dataset}.inter").rename(data_path / "other" / "other.inter")
    store = FeatureStore.open(data_path / "other" / "features" / "text")
    rows = [np.ones((1, 5), dtype=np.float32) for _ in store.item_tokens]
    FeatureStore.write(store.path, store.item_tokens, rows, encoder="another", overwrite=True)
    assert main([*argv, "--source=other"]) == 2
    assert "does not fit" in capsys.readouterr().err
