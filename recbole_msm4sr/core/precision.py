"""Which arithmetic a device is fast in, and which one mixed precision asks for."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def default_precision(device: torch.device) -> str:
    """``bf16`` where the device multiplies bfloat16 matrices natively, else ``float32``.

    Natively means AVX-512 BF16 or AMX on an x86 CPU, and compute capability 8.0 on a GPU. Elsewhere bfloat16 is
    emulated, and slower than float32.
    """
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        has_instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        native = has_instructions and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # ONEDNN_MAX_CPU_ISA may forbid them
    return "bf16" if native else "float32"


def runs_in_bf16(model: nn.Module, device: torch.device) -> bool:
    """Whether the device can run the model in bfloat16: recurrent layers need AVX-512 on an x86 CPU."""
    if device.type != "cpu" or not any(isinstance(module, nn.RNNBase) for module in model.modules()):
        return True
    try:
        with torch.random.fork_rng(devices=[]), torch.autocast("cpu", dtype=torch.bfloat16):
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True


def product_dtype(tensor: Tensor) -> torch.dtype:
    """Autocast's dtype for matrix products where it is enabled for the tensor's device, else the tensor's own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype
