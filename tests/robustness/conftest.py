"""How inputs are drawn, and a small data set to draw them for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from recbole_msm4sr.data.feature_store import FeatureStore

settings.register_profile(
    "robustness",
    derandomize=True,  # the same inputs each time
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set folder ``tiny`` with both feature stores: 20 users with 6 interactions on 20 items."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    folder.mkdir()
    lines = [f"u{user}\ti{(user * 3 + time) % 20}\t{time}\n" for user in range(20) for time in range(6)]
    (folder / "tiny.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(lines))
    rng = np.random.default_rng(1)
    for modality in ("text", "image"):
        vectors = [rng.standard_normal((1 + item % 2, 4), dtype=np.float32) for item in range(20)]
        FeatureStore.write(
            folder / "features" / modality, [f"i{item}" for item in range(20)], vectors, encoder="random"
        )
    return folder
