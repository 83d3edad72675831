"""Which device a task computes on, and how much of a GPU's memory it may take."""

from types import SimpleNamespace

import pytest
import ray
import torch

from jobs.schedule.workers import PRETENDED_GPUS
from jobs.worker.device import find_reserved_device


@pytest.fixture
def reserve(monkeypatch):
    """Pretends that this process is a Ray task with a share of a GPU; collects memory fractions."""
    fractions = []
    monkeypatch.delenv(PRETENDED_GPUS, raising=False)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", fractions.append)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)

    def reserve_share(share):
        context = SimpleNamespace(
            get_accelerator_ids=lambda: {"GPU": ["0"] if share else []},
            get_assigned_resources=lambda: {"CPU": 1.0} | ({"GPU": share} if share else {}),
        )
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        return fractions

    return reserve_share


@pytest.mark.parametrize(("share", "fraction"), [(0.25, 0.25), (1.0, 1.0), (2.0, 1.0)])
def test_a_task_takes_no_more_of_a_gpus_memory_than_it_reserved(reserve, share, fraction):
    fractions = reserve(share)
    assert find_reserved_device() == torch.device("cuda")
    assert fractions == [fraction]


def test_a_task_without_a_gpu_computes_on_the_cpu(reserve):
    assert reserve(0) == []
    assert find_reserved_device() == torch.device("cpu")


def test_a_pretended_gpu_is_computed_on_the_cpu(reserve, monkeypatch):
    fractions = reserve(1.0)
    monkeypatch.setenv(PRETENDED_GPUS, "1")
    assert find_reserved_device() == torch.device("cpu")
    assert fractions == []
