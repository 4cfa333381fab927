"""Without torchrun a process is alone; under it, it finds its number and its GPU. (With two: test_shards.py.)"""

from __future__ import annotations

import pytest
import torch

from dataset_prep import ranks


def test_a_lone_process_waits_for_nobody_and_gets_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert (ranks.rank(), ranks.world_size()) == (0, 1)
    assert ranks.once(lambda: "value") == "value"
    assert list(ranks.claims(3)) == [0, 1, 2]
    ranks.barrier()
    count = ranks.SharedCount()
    assert [count.add(2), count.add(3)] == [2, 5]


@pytest.mark.parametrize(
    ("asked", "local_rank", "expected"),
    [(None, "1", "cuda:1"), ("cuda", "3", "cuda:1"), ("cuda:0", "1", "cuda:0"), ("cpu", "1", "cpu")],
)
def test_each_process_of_a_host_has_a_gpu_of_its_own_unless_told_otherwise(
    asked: str | None, local_rank: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "RANK": "3", "LOCAL_RANK": local_rank}.items():
        monkeypatch.setenv(name, value)
    assert ranks.own_device(asked) == expected
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert ranks.own_device(asked) == (asked or "cuda")
