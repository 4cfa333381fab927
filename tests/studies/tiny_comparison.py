"""The command line of a comparison of two models on the tiny data set."""

from __future__ import annotations

from pathlib import Path

Tiny = tuple[Path, str]


def argv(tiny: Tiny, *more: str) -> list[str]:
    """One epoch and one seed; of words with the same key, the later one wins."""
    data_path, name = tiny
    common = ["--epochs=1", "--use_gpu=false", "--topk=[5,10]", "--valid_metric=Recall@10", f"--data_path={data_path}"]
    words = ["--models=SASRecM,GRU4Rec", f"--dataset={name}", "--seeds=1", "--out=out", *common, *more]
    return ["compare", *{word.partition("=")[0]: word for word in words}.values()]
