"""What a step must spend, and how long this machine needs for it at its measured speed.

Only what no implementation of the method can leave out is counted, so the achieved fraction errs on the low side.

Operations, with n distinct items, R_m their feature rows in modality m, d the features' and d0 the hidden size, O
experts, M modalities, P pairs, T positions; a multiplication with its addition counts 2, and a product whose both
factors need a gradient counts three times (forward and twice backward):

- attention over rows (eq. 3), logits and pooled sum: 2 * 2 R_m d, and backward as much; rows need no gradient;
- experts and gate (eq. 4): 3 * 2 n d (O d0 + O) a modality;
- transformer, a layer and stream: 3 * 2 T (4 d0^2 + 2 d0 inner), and 3 * 2 * 2 d0 for each of the L (L + 1) / 2 pairs
  of positions that see each other;
- scores (eq. 12): 3 * 2 P n_items M d0;
- pre-training losses (eq. 7-10), a modality: 3 * 2 * 5 P^2 d0 (two matrices of NIP, three of CMCL).

Bytes: the feature rows once forward and once backward, as stored; the weights and what Adam keeps of them, read and
written (28 bytes a float32 weight); in an evaluation the rows and the weights once. Activations are not counted: they
can stay in cache or be computed again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import progress, synchronize

_ADAM_BYTES = 28  # weight, gradient and two moments read; weight and two moments written


@dataclass(frozen=True)
class Cost:
    """Operations and bytes of memory traffic."""

    flop: float = 0.0
    traffic: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flop + other.flop, self.traffic + other.traffic)

    def per(self, amount: float) -> Cost:
        """The cost of one of ``amount``."""
        return Cost(self.flop / amount, self.traffic / amount)


@dataclass(frozen=True)
class Machine:
    """Measured speed.

    Attributes:
        float32, bfloat16: GFLOP/s of a large matrix product.
        copy: GB/s of a copy, read plus written.
        threads: that torch uses.
        device: cpu, or the GPU's name.
    """

    float32: float
    bfloat16: float
    copy: float
    threads: int
    device: str


@functools.cache
def machine() -> Machine:
    """Measure this machine, once a process; on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = 8192 if device.type == "cuda" else 2048
    speeds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(size, size, device=device).to(dtype)
        speeds[dtype] = 2 * size**3 / _best_seconds(functools.partial(torch.mm, a, a)) / 1e9
    source = torch.ones(2**27, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.numel() / _best_seconds(functools.partial(target.copy_, source)) / 1e9
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    found = Machine(speeds[torch.float32], speeds[torch.bfloat16], copy, torch.get_num_threads(), name)
    progress(
        f"  this machine: {found.float32:,.0f} GFLOP/s in float32, {found.bfloat16:,.0f} in bfloat16, "
        f"copies {found.copy:,.1f} GB/s ({found.threads} threads, {found.device})"
    )
    return found


def _best_seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Shortest of some runs: the roof is what the machine can do, not what it does while it is busy elsewhere."""
    seconds = []
    for _ in range(repeats + 1):
        synchronize()
        began = perf_counter()
        work()
        synchronize()
        seconds.append(perf_counter() - began)
    return min(seconds[1:])


def report(cost: Cost, rate: float) -> dict[str, Any]:
    """The JSON key ``roofline`` of a rate (pairs or users a second) whose every unit costs ``cost``."""
    roof = machine()
    entry: dict[str, Any] = {"flop": cost.flop, "bytes": cost.traffic, "machine": asdict(roof)}
    for precision, speed in (("", roof.float32), ("_bfloat16", roof.bfloat16)):
        attainable = 1 / max(cost.flop / (speed * 1e9), cost.traffic / (roof.copy * 1e9))
        entry |= {f"attainable{precision}": attainable, f"achieved{precision}": rate / attainable}
    return entry


def pretraining_step(config: Any, part: Any, batch: Any, n_weights: int) -> Cost:
    """What a step on a packed batch must spend; see the module.

    Args:
        config: the model's settings.
        part: a part of the data, with ``item_features``.
        batch: interaction with the item list, ``target`` and length fields, of any padding.
        n_weights: trainable numbers of the model.
    """
    item_seq, length, target = _fields(config, batch)
    items = torch.cat([item_seq, target]).unique()
    pairs, kept = len(target), 1 - config["sequence_dropout"]
    loss = Cost(flop=len(config["modalities"]) * 3 * 2 * 5 * pairs**2 * config["hidden_size"])
    sequences = _transformer(config, length * kept, passes=3)
    return _encoders(config, part, items[items > 0], passes=3) + sequences + loss + Cost(0, _ADAM_BYTES * n_weights)


def finetuning_step(config: Any, part: Any, batch: Any, n_weights: int) -> Cost:
    """The same for fine-tuning, which encodes and scores every item."""
    _, length, target = _fields(config, batch)
    n_items = part.item_num - 1
    scores = _scores(config, len(target), n_items, passes=3)
    encoders = _encoders(config, part, torch.arange(1, n_items + 1), passes=3)
    return encoders + _transformer(config, length, passes=3) + scores + Cost(0, _ADAM_BYTES * n_weights)


def evaluation(config: Any, part: Any, length: Tensor, n_weights: int) -> Cost:
    """What ranking all items for users with histories of ``length`` (int64 ``[U]``) must spend."""
    n_items = part.item_num - 1
    scores = _scores(config, len(length), n_items, passes=1)
    encoders = _encoders(config, part, torch.arange(1, n_items + 1), passes=1)
    return encoders + _transformer(config, length, passes=1) + scores + Cost(0, 4 * n_weights)


def _fields(config: Any, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Items without padding, lengths, and targets without blanks, each flat."""
    item_seq = batch[config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"]]
    target = batch["target"]
    return item_seq[item_seq > 0], batch[config["ITEM_LIST_LENGTH_FIELD"]], target[target > 0]


def _encoders(config: Any, part: Any, items: Tensor, passes: int) -> Cost:
    """Encoders on distinct items; ``passes`` is 3 with, 1 without the backward pass."""
    total = Cost()
    for modality in config["modalities"]:
        values, offsets = part.item_features[modality]
        d = values.size(1)
        n_rows = int((offsets[items + 1] - offsets[items]).sum())
        rows_read = 2 if passes == 3 else 1
        experts = passes * 2 * len(items) * d * config["n_experts"] * (config["hidden_size"] + 1)
        total += Cost(rows_read * 4 * n_rows * d + experts, rows_read * n_rows * d * values.element_size())
    return total


def _transformer(config: Any, length: Tensor, passes: int) -> Cost:
    """The transformer on sequences of ``length`` items, once a modality."""
    size, length = config["hidden_size"], length.double()
    positions, seen = float(length.sum()), float((length * (length + 1) / 2).sum())
    layer = 2 * positions * (4 * size**2 + 2 * size * config["inner_size"]) + 2 * 2 * seen * size
    return Cost(passes * config["n_layers"] * len(config["modalities"]) * layer)


def _scores(config: Any, n_states: int, n_items: int, passes: int) -> Cost:
    return Cost(passes * 2 * n_states * n_items * len(config["modalities"]) * config["hidden_size"])
