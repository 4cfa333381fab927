"""Runs on the tiny data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_runs import SMALL

import recbole_msm4sr


@pytest.fixture
def run(tiny_dataset: tuple[Path, str]) -> Any:
    """``run(model, **settings)`` on the tiny data set, with results below the current folder."""
    data_path, name = tiny_dataset

    def call(model: str | type, **settings: Any) -> dict[str, Any]:
        small = SMALL if isinstance(model, str) and model.startswith("M") else {}
        return recbole_msm4sr.run(model, name, config_dict={"data_path": str(data_path), **small, **settings})

    return call
