"""Damaged ``.inter`` and ``.item`` files: read as they must be, or refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from damage import Damage, damaged, inputs, table_damage
from hypothesis import given
from hypothesis import strategies as st
from outcome import Outcome, metrics_of, outcome_of
from tables import read, write

from recbole_msm4sr.cli import main

_SETTINGS = ["--epochs=0", "--topk=[5]", "--valid_metric=Recall@5", "--use_gpu=false", "--reuse=false"]
_ROWS = [
    (f"u{user:02d}", f"i{(user * 3 + time * (1 + user % 2)) % 30:02d}", 1.5e9 + user * 1e4 + time * 1e3)
    for user in range(20)
    for time in range(6)
]
_BRANDS = "item_id:token\tbrand:token\n" + "".join(f"i{item:02d}\tb{item % 3}\n" for item in range(30))


def _run(content: bytes, *argv: str, model: str, item: bytes | None = None) -> tuple[Outcome, dict[str, Any] | None]:
    """Train ``model`` on an ``.inter`` file of this content, in a folder of its own; its figures if that works."""
    folder = Path("dataset/some")
    for place in (folder, Path("runs"), Path("saved")):
        shutil.rmtree(place, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "some.inter").write_bytes(content)
    if item is not None:
        (folder / "some.item").write_bytes(item)
    names = ["some.inter", "some.item", "data set"]
    outcome = outcome_of(main, [f"--model={model}", "--dataset=some", *_SETTINGS, *argv], names)
    return outcome, metrics_of(Path("runs"), "some", model) if outcome.works else None


def _meaning(metrics: dict[str, Any] | None) -> Any:
    """What of a run depends on the data alone, not on how a file writes it down."""
    if metrics is None:
        return None
    data = {name: value for name, value in metrics["data"].items() if name != "interactions"}
    return data, metrics["test_result"]


@inputs(15)
@given(st.lists(table_damage, min_size=1, max_size=3), st.sampled_from(["SASRec", "BPR"]))
def test_interactions(damages: list[Damage], model: str) -> None:
    content = damaged(write(_ROWS), damages)
    outcome, metrics = _run(content, model=model)
    reading = read(content)
    if reading is None:
        assert not outcome.works, "a file without a meaning was read"
        return
    plain_outcome, plain = _run(write(reading.rows), model=model)
    if reading.must_be_read:
        assert outcome.works == plain_outcome.works, outcome.message or plain_outcome.message
    if outcome.works:
        assert _meaning(metrics) == _meaning(plain)


@inputs(10)
@given(st.lists(table_damage, min_size=1, max_size=2))
def test_item_attributes(damages: list[Damage]) -> None:
    _run(
        write(_ROWS),
        "--selected_features=[brand]",
        "--modalities=[]",
        model="DIFSR",
        item=damaged(_BRANDS.encode(), damages),
    )


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_the_undamaged_file_is_read(model: str) -> None:
    outcome, metrics = _run(write(_ROWS), model=model)
    assert outcome.works
    assert metrics is not None
