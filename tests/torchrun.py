"""Start a script in two processes, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def torchrun(*command: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
    """``torchrun --nproc_per_node=2 COMMAND...``; ``command`` begins with a script, or with ``-m`` and a module."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *command],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
