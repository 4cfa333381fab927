"""Weights of MSM4SR under the names of the literal version, so that both can start from one point."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor


def translate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename MSM4SR's or MSM4SRPretrain's weights (or their gradients), and split what is one matrix there.

    Args:
        tensors: all of them, by the names of ``model.state_dict()``.

    Returns:
        A state dict of ``LiteralFinetune`` or ``LiteralPretrain``; views where possible.

    Raises:
        ValueError: a name is not known here.
    """
    n_experts = next(len(tensor) for name, tensor in tensors.items() if name.endswith("experts.gate.weight"))
    rules = [(re.compile(pattern), names) for pattern, names in _rules(n_experts).items()]
    translated: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match, names = next(((rule.fullmatch(name), to) for rule, to in rules if rule.fullmatch(name)), (None, []))
        if match is None:
            raise ValueError(f"the literal version has no counterpart of {name}")
        if "experts.norm_" in name:
            tensor = tensor.flatten()  # [O, d0] there, a LayerNorm an expert here
        translated.update(zip((match.expand(to) for to in names), tensor.chunk(len(names)), strict=True))
    return translated


def _rules(n_experts: int) -> dict[str, list[str]]:
    """Pattern of a name there to the names of its equal parts, along the first dimension, here."""
    encoder = r"m2se\.encoders\.(\w+)"
    layer = r"m2se\.transformer\.layers\.(\d+)"
    return {
        rf"{encoder}\.attention\.(w[12]\.\w+)": [r"encoders.\1.\2"],
        rf"{encoder}\.experts\.experts\.(\w+)": [rf"encoders.\1.experts.{k}.0.\2" for k in range(n_experts)],
        rf"{encoder}\.experts\.norm_(\w+)": [rf"encoders.\1.experts.{k}.2.\2" for k in range(n_experts)],
        rf"{encoder}\.experts\.(gate\.\w+)": [r"encoders.\1.\2"],
        rf"{encoder}\.missing": [r"encoders.\1.missing"],
        r"m2se\.transformer\.(position_embedding\.weight|norm\.\w+)": [r"\1"],
        rf"{layer}\.query_key_value\.(\w+)": [
            rf"transformer.layer.\1.multi_head_attention.{part}.\2" for part in ("query", "key", "value")
        ],
        rf"{layer}\.attention_output\.(\w+)": [r"transformer.layer.\1.multi_head_attention.dense.\2"],
        rf"{layer}\.attention_norm\.(\w+)": [r"transformer.layer.\1.multi_head_attention.LayerNorm.\2"],
        rf"{layer}\.inner\.(\w+)": [r"transformer.layer.\1.feed_forward.dense_1.\2"],
        rf"{layer}\.outer\.(\w+)": [r"transformer.layer.\1.feed_forward.dense_2.\2"],
        rf"{layer}\.feed_forward_norm\.(\w+)": [r"transformer.layer.\1.feed_forward.LayerNorm.\2"],
        r"objective\.(projections\.\w+\.\w+)": [r"\1"],
        r"(item_embedding\.weight)": [r"\1"],
    }
