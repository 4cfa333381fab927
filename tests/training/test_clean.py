"""``clean`` removes what killed commands left, and nothing that is useful or in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_runs import Interrupted, interrupt_after

from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.files import locked
from recbole_msm4sr.training.clean import clean


def test_left_overs_are_removed_and_results_are_not(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = Path(run("SASRecM", epochs=1)["run_folder"])
    (stage,) = Path("saved/tiny").iterdir()
    (stage / "progress.pth").touch()  # killed between its last two steps
    with monkeypatch.context() as patch:
        interrupt_after(1, "train", patch)
        with pytest.raises(Interrupted):
            run("SASRecM", epochs=2)
    (unfinished,) = (folder for folder in Path("runs/tiny/SASRecM").iterdir() if folder != finished)
    (interrupted,) = (folder for folder in Path("saved/tiny").iterdir() if folder != stage)
    kept = {path.name for path in finished.iterdir()}
    with locked(unfinished / "lock"):
        assert unfinished not in clean(["runs"]).removed
    report = clean(["runs", "saved"])
    assert set(report.removed) == {unfinished, stage / "progress.pth"}
    assert report.resumable == [interrupted]
    assert f"removed {unfinished}" in str(report)
    assert "which --resume continues" in str(report)
    assert kept == {path.name for path in finished.iterdir()}
    assert run("SASRecM", epochs=2, resume=True)["test_result"]
    assert str(clean(["runs", "saved"])) == "there was nothing to remove"


def test_interrupted_stages_go_when_that_is_asked_for(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_after(1, "train", monkeypatch)
    with pytest.raises(Interrupted):
        run("SASRecM", epochs=2)
    (stage,) = Path("saved/tiny").iterdir()
    assert clean(["saved"], interrupted=True).removed == [stage]
    with pytest.raises(UserError, match="there is no folder nowhere"):
        clean(["nowhere"])
