"""MSM4SR, multimodal pre-training for sequential recommendation, as a RecBole plugin."""

from __future__ import annotations

from typing import Any

__version__ = "0.2.0.dev0"
__all__ = ["__version__", "run"]


def __getattr__(name: str) -> Any:
    """Import ``run`` (and with it torch and RecBole) only when it is asked for."""
    if name == "run":
        from recbole_msm4sr.training.recipe import run

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
