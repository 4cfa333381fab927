"""One process alone, and two that torchrun starts: shares of the work, GPUs, and refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from two_processes import in_two_processes

from recbole_msm4sr.core import distributed
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.training import recipe


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the second of two processes that torchrun starts."""
    variables = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in (variables | {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_without_torchrun_there_is_one_process() -> None:
    with distributed.joined(torch.device("cpu")), distributed.main_first():
        assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
        assert distributed.once(lambda: (1, 2.5)) == (1, 2.5)
        assert distributed.first_to_fail()
        assert distributed.own_gpu("0,1") == "0,1"
        assert distributed.own_share([1, 2]) == [1, 2]
        assert list(distributed.claims(3)) == [0, 1, 2]
        distributed.barrier()
        count = distributed.SharedCount()
        assert [count.add(2), count.add(3)] == [2, 5]


def do_everything() -> dict[str, Any]:
    rank, count = distributed.rank(), distributed.SharedCount()
    with distributed.main_first():
        order = count.add(1)
    distributed.barrier()
    return {
        "once": distributed.once(lambda: {"of": rank}),
        "order": order,
        "claims": list(distributed.claims(7)),
        "share": list(distributed.own_share(range(7))),
        "count": count.add(0),
        "first to fail": distributed.first_to_fail(),
    }


@pytest.mark.parametrize("joins", [True, False], ids=["group", "store alone"])
def test_two_processes_agree(joins: bool) -> None:
    first, second = in_two_processes(do_everything, joins=joins)
    assert first["once"] == second["once"] == {"of": 0}
    assert (first["order"], second["order"]) == (1, 2)
    assert sorted(first["claims"] + second["claims"]) == list(range(7))
    assert (first["share"], second["share"]) == ([0, 2, 4, 6], [1, 3, 5])
    assert first["count"] == second["count"] == 2
    assert {first["first to fail"], second["first to fail"]} == {True, False}


def join_with_one_gpu() -> str:
    try:
        with distributed.joined(torch.device("cuda" if distributed.rank() else "cpu")):
            return "joined"
    except UserError as error:
        distributed.barrier()  # the first process holds the store
        return str(error)


def test_processes_with_and_without_a_gpu_are_refused() -> None:
    for message in in_two_processes(join_with_one_gpu, joins=False):
        assert message.startswith("only 1 of 2 processes have a GPU")


@pytest.mark.parametrize(
    ("gpu_id", "own"), [("0", "1"), (0, "1"), ("2", "3"), ("4,7", "7"), ((4, 7), "7"), ("5, 6, 9", "6"), ("", "")]
)
@pytest.mark.usefixtures("second_of_two")
def test_a_process_takes_the_gpu_of_its_number(gpu_id: object, own: str) -> None:
    assert distributed.own_gpu(gpu_id) == own


@pytest.mark.usefixtures("second_of_two")
def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(UserError, match="gpu_id lists 2 GPUs for 3 processes"):
        distributed.own_gpu("0,1")


@pytest.mark.parametrize(
    ("asked", "local_rank", "expected"),
    [(None, "1", "cuda:1"), ("cuda", "3", "cuda:1"), ("cuda:0", "1", "cuda:0"), ("cpu", "1", "cpu")],
)
@pytest.mark.usefixtures("second_of_two", "two_gpus")
def test_each_process_of_a_host_has_a_device_of_its_own_unless_told_otherwise(
    asked: str | None, local_rank: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert distributed.own_device(asked) == expected
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert distributed.own_device(asked) == (asked or "cuda")


@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_a_device_that_is_not_there_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"device .?{device}"):
        distributed.own_device(device)


@pytest.mark.parametrize("model", ["SASRec", "GRCN"])
def test_recboles_models_and_general_ones_train_in_one_process(
    tiny_dataset: tuple[Path, str], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "world_size", lambda: 2)
    with pytest.raises(UserError, match=f"{model} trains in one process, only this package's sequential models"):
        recipe.run(model, tiny_dataset[1], config_dict={"data_path": str(tiny_dataset[0])})
    assert not Path("runs").exists()


def test_torch_is_imported_by_training_alone() -> None:
    code = (
        "import sys; from recbole_msm4sr.core import distributed, done; distributed.barrier(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
