"""Which arithmetic a device is fast in."""

from __future__ import annotations

import torch


def default_precision(device: torch.device) -> str:
    """``bf16`` where the device multiplies bfloat16 matrices natively, else ``float32``.

    Natively means AVX-512 BF16 or AMX on an x86 CPU, and compute capability 8.0 on a GPU. Elsewhere bfloat16 is
    emulated, and slower than float32.
    """
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "float32"
