"""Configurations of a data set that need not exist, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError


def make(model: str = "MSM4SR", /, dataset: str = "mine", files: list[Path] | None = None, **settings: Any) -> Config:
    return Config(model, dataset, [str(path) for path in files or []], settings)


def refusal(model: str, /, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        make(model, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message
