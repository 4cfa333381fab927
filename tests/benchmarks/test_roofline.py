"""Operations are those of the matrix products; the machine's speed is measured once."""

from __future__ import annotations

import pytest
import torch

from benchmarks import roofline
from benchmarks.roofline import Machine


def test_products_are_counted_forward_and_backward() -> None:
    weight = torch.ones(5, 7, requires_grad=True)

    def work() -> float:
        (torch.ones(3, 5) @ weight).sum().backward()
        return 3

    assert roofline.flop_of(work) == 2 * 2 * 3 * 5 * 7 / 3  # the input needs no gradient


def test_the_fraction_of_the_attainable_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "machine", lambda: Machine(2.0, 4.0, 1.0, threads=1, device="cpu"))
    report = roofline.report(2e9, rate=0.25)
    assert (report["attainable"], report["achieved"]) == (1.0, 0.25)
    assert (report["attainable_bfloat16"], report["achieved_bfloat16"]) == (2.0, 0.125)


def test_the_machine_is_measured_once() -> None:
    found = roofline.machine()
    assert found is roofline.machine()
    assert min(found.float32, found.bfloat16, found.copy) > 0
