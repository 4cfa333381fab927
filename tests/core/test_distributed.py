"""Under torchrun: which GPU is whose, who tells the error, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed as dist

from recbole_msm4sr.core import distributed as processes
from recbole_msm4sr.core.errors import UserError
from recbole_msm4sr.model import parallel
from recbole_msm4sr.training import recipe


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> dist.Store:
    """The environment of the second of two processes that torchrun starts, and their store."""
    variables = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in (variables | {"MASTER_ADDR": "localhost", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    store = dist.HashStore()
    monkeypatch.setattr(processes, "_store", lambda: store)
    return store


@pytest.mark.parametrize(
    ("gpu_id", "own"), [("0", "1"), (0, "1"), ("2", "3"), ("4,7", "7"), ((4, 7), "7"), ("5, 6, 9", "6"), ("", "")]
)
@pytest.mark.usefixtures("second_of_two")
def test_a_process_takes_the_gpu_of_its_number(gpu_id: object, own: str) -> None:
    assert processes.own_gpu(gpu_id) == own


@pytest.mark.usefixtures("second_of_two")
def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(UserError, match="gpu_id lists 2 GPUs for 3 processes"):
        processes.own_gpu("0,1")


def test_processes_with_and_without_a_gpu_are_refused(second_of_two: dist.Store) -> None:
    second_of_two.set("device of 0", "cuda")
    with pytest.raises(UserError, match="only 1 of 2 processes have a GPU"), processes.joined(torch.device("cpu")):
        pass


@pytest.mark.usefixtures("second_of_two")
def test_the_first_process_to_fail_alone_says_why() -> None:
    assert [processes.first_to_fail() for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("model", ["SASRec", "GRCN"])
def test_recboles_models_and_general_ones_train_in_one_process(
    tiny_dataset: tuple[Path, str], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    with pytest.raises(UserError, match=f"{model} trains in one process, only this package's sequential models"):
        recipe.run(model, tiny_dataset[1], config_dict={"data_path": str(tiny_dataset[0])})
    assert not Path("runs").exists()


def test_without_torchrun_there_is_one_process() -> None:
    with processes.joined(torch.device("cpu")), processes.main_first():
        assert processes.is_main()
        assert processes.share({"a": [1, 2.5]}) == {"a": [1, 2.5]}
        assert processes.first_to_fail()
        assert processes.own_gpu("0,1") == "0,1"
