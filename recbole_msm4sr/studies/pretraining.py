"""Pre-training on another data set, for the cross-domain study (table VI)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_msm4sr.core.files import atomic_file, sha256_of_file
from recbole_msm4sr.training.recipe import run


def pretrain(model: str, dataset: str, settings: Mapping[str, Any], seed: int, out: Path) -> Path:
    """Run a first stage on a data set, or reuse it.

    Args:
        model: ``MSM4SRPretrain`` or another first stage.
        settings: on top of the model's own.
        out: folder for the checkpoint.

    Returns:
        The checkpoint, whose name follows from its content.

    Raises:
        UserError: what the run raises.
    """
    getLogger(__name__).info(f"{model} on {dataset}")
    result = run(model, dataset, config_dict={**settings, "seed": seed, "resume": True}, test=False, console=False)
    checkpoint = Path(result["run_folder"]) / "checkpoint.pth"
    kept = out / f"{model}-{dataset}-{sha256_of_file(checkpoint)[:12]}.pth"
    with atomic_file(kept) as temporary:
        shutil.copyfile(checkpoint, temporary)
    return kept
