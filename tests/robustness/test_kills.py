"""A command killed at any moment loses nothing: run again, it gives the results of one that was never killed."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kill import check, digest

import recbole_msm4sr.training.recipe  # noqa: F401 - imported once, before the forks
from dataset_prep.__main__ import main as prepare_data
from dataset_prep.demo.catalogue import dictionary
from dataset_prep.demo.encoders import build_sentence_encoder
from recbole_msm4sr.cli import main
from recbole_msm4sr.data.feature_store import FeatureStore

_SMALL = [
    "--topk=[5]",
    "--valid_metric=Recall@5",
    "--use_gpu=false",
    "--hidden_size=16",
    "--n_experts=2",
    "--n_heads=2",
]
_RUN = ["--model=MSM4SR", "--dataset=tiny", "--pretrain_epochs=2", "--epochs=2", "--attention_size=4", *_SMALL]
_COMPARE = ["compare", "--models=SASRec,BPR", "--dataset=tiny", "--trials=0", "--seeds=1", "--out=studies/one"]
_COMPARE += ["--epochs=1", *_SMALL[:3]]
_CUSTOM = ["custom", "--inter=my.tsv", "--text=my.jsonl", "--keywords=words.jsonl", "--min-user=1", "--device=cpu"]
_CUSTOM += ["--sentence-encoder=encoder", "--workers=1", "--out=dataset/my"]


def _tiny(folder: Path) -> None:
    data = folder / "dataset" / "tiny"
    data.mkdir(parents=True)
    lines = [f"u{user}\ti{(user * 3 + time) % 20}\t{time}\n" for user in range(20) for time in range(6)]
    (data / "tiny.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(lines))
    rng = np.random.default_rng(1)
    for modality in ("text", "image"):
        vectors = [rng.standard_normal((1 + item % 2, 4), dtype=np.float32) for item in range(20)]
        FeatureStore.write(data / "features" / modality, [f"i{item}" for item in range(20)], vectors, encoder="random")


def _raw(folder: Path) -> None:
    events = [f"u{user}\ti{(user * 3 + time) % 9}\t{time}\n" for user in range(9) for time in range(6)]
    (folder / "my.tsv").write_text("user_id\titem_id\ttimestamp\n" + "".join(events))
    items = [{"item_id": f"i{item}", "title": f"Round thing {item}"} for item in range(9)]
    (folder / "my.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    words = [{"item_id": f"i{item}", "keywords": [["red", "round"]]} for item in range(9)]
    (folder / "words.jsonl").write_text("".join(json.dumps(line) + "\n" for line in words))
    build_sentence_encoder(folder / "encoder", dictionary(), seed=1)


def _run_results(folder: Path) -> Any:
    metrics = max((folder / "runs/tiny/MSM4SR").glob("*/metrics.json"), key=lambda path: path.stat().st_mtime_ns)
    content = json.loads(metrics.read_text())
    return content["test_result"], content["best_valid_result"]


def _compare_results(folder: Path) -> Any:
    table = (folder / "studies/one/table.md").read_text().splitlines()
    return [line for line in table if line.startswith("| recall")]


def _prepared(folder: Path) -> Any:
    made = folder / "dataset/my"
    files = [made / "my.inter", made / "text.jsonl", *made.glob("features/*/[vio]*")]
    return {str(path.relative_to(made)): digest(path) for path in files}


_CLEAN = functools.partial(main, ["clean"])

CASES: dict[str, Any] = {
    "run": ([functools.partial(main, [*_RUN, "--resume"]), _CLEAN], _run_results, _tiny),
    "run again": ([functools.partial(main, [*_RUN, "--reuse=false"]), _CLEAN], _run_results, _tiny),
    "compare": ([functools.partial(main, _COMPARE), _CLEAN], _compare_results, _tiny),
    "preparation": ([functools.partial(prepare_data, _CUSTOM)], _prepared, _raw),
}


@pytest.mark.parametrize("name", CASES)
def test_killed_at_some_events(name: str) -> None:
    commands, results, prepare = CASES[name]
    assert list(check(commands, results, prepare, every=17, first=3)) == []
