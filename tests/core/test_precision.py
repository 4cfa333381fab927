"""The default precision follows the device, and is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recbole_msm4sr.config.load import Config
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.core.precision import default_precision


@pytest.mark.parametrize(
    ("avx512", "amx", "one_dnn", "expected"),
    [
        (False, False, True, "float32"),
        (True, False, True, "bf16"),
        (False, True, True, "bf16"),
        (True, True, False, "float32"),  # ONEDNN_MAX_CPU_ISA=AVX2
    ],
)
def test_a_cpu_without_bfloat16_arithmetic_stays_in_float32(
    monkeypatch: pytest.MonkeyPatch, avx512: bool, amx: bool, one_dnn: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: one_dnn)
    assert default_precision(torch.device("cpu")) == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_a_gpu_from_ampere_on_multiplies_bfloat16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert default_precision(torch.device("cuda")) == expected


def test_the_chosen_precision_is_recorded(tiny_dataset: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    data_path, name = tiny_dataset
    monkeypatch.setattr("recbole_msm4sr.config.load.default_precision", lambda device: "bf16")
    chosen = Config("MSM4SR", name, None, {"data_path": str(data_path)})
    assert chosen["precision"] == chosen.resolved["precision"] == "bf16"
    given = Config("MSM4SR", name, None, {"data_path": str(data_path), "precision": "float32"})
    assert given["precision"] == given.resolved["precision"] == "float32"


def test_an_unknown_precision_is_refused(tiny_dataset: tuple[Path, str]) -> None:
    data_path, name = tiny_dataset
    with pytest.raises(UserError, match="precision must be one of float32, bf16"):
        Config("MSM4SR", name, None, {"data_path": str(data_path), "precision": "fp8"})
