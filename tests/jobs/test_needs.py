"""What runs reserve, as far as the workers' machines are known."""

import pytest
import ray
from fake_workers import FakeWorkers

from jobs.plan.options import LearningOptions
from jobs.plan.provision import limit_in_flight
from jobs.plan.teacher_options import TeachersOptions
from jobs.schedule.fanout import IN_FLIGHT
from jobs.schedule.ray_workers import RayWorkers
from terminal.console import UserError

GIB = 1024**3
HEAD = {"Alive": True, "Resources": {"memory": 64.0 * GIB}}
"""A node that takes no tasks."""
NODE = {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0, "memory": 10.0 * GIB}}


@pytest.mark.parametrize(("n_gpus", "share"), [(0, 0), (3, 1)])
def test_a_run_takes_a_gpu_where_there_are_any(n_gpus, share):
    assert LearningOptions().find_needs(FakeWorkers(n_gpus=n_gpus)).gpus == share


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_a_run_takes_the_share_of_a_gpu_that_was_asked_for(share):
    to_come = FakeWorkers(memory_bytes=0, is_shared=True)
    for workers in (to_come, FakeWorkers(n_gpus=3)):
        assert LearningOptions(gpus_per_run=share).find_needs(workers).gpus == share


def test_a_cluster_whose_nodes_are_all_still_to_come_needs_the_share_as_an_option():
    to_come = FakeWorkers(memory_bytes=0, is_shared=True)
    with pytest.raises(UserError, match="no node yet .* say --gpus-per-run 1 if they have"):
        LearningOptions().find_needs(to_come)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (LearningOptions(cpus_per_run=5), "--cpus-per-run 5: this machine has 4 cores"),
        (LearningOptions(gpus_per_run=2), "--gpus-per-run 2: this machine has 1 GPU,"),
        (
            TeachersOptions(gpus_per_run=1, gpus_per_teacher=2),
            "--gpus-per-teacher 2: this machine has 1 GPU,",
        ),
    ],
)
def test_only_a_cluster_that_may_grow_is_asked_for_more_than_it_has(options, message):
    with pytest.raises(UserError, match=message):
        options.find_needs(FakeWorkers(n_gpus=1))
    assert options.find_needs(FakeWorkers(n_gpus=1, is_shared=True))


def test_a_plan_for_a_cluster_is_not_measured_by_this_machine(monkeypatch):
    options = LearningOptions(cpus_per_run=4096)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    options.check_fit_here()
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with pytest.raises(UserError, match="this machine has"):
        options.check_fit_here()


@pytest.fixture
def nodes(monkeypatch):
    """Sets the nodes of the connected cluster."""

    def set_nodes(*nodes):
        monkeypatch.setattr(ray, "nodes", lambda: nodes)

    return set_nodes


def test_the_memory_of_a_node_is_that_of_one_that_takes_tasks(nodes):
    nodes(HEAD)
    assert RayWorkers(is_shared=True).find_largest_memory_bytes() == 0
    nodes(HEAD, NODE, NODE | {"Alive": False, "Resources": {"CPU": 8.0, "memory": 20.0 * GIB}})
    assert RayWorkers(is_shared=True).find_largest_memory_bytes() == 10 * GIB


def test_teachers_on_several_gpus_are_few_in_flight():
    options = TeachersOptions(gpus_per_teacher=4)
    assert limit_in_flight(options, FakeWorkers(n_gpus=9)) == 3
    assert limit_in_flight(options, FakeWorkers(n_gpus=4 * IN_FLIGHT)) == IN_FLIGHT
    with pytest.raises(UserError, match="the cluster has 3 GPUs"):
        limit_in_flight(options, FakeWorkers(n_gpus=3))


def test_teachers_wait_for_gpus_that_are_said_to_come():
    options = TeachersOptions(gpus_per_teacher=4, gpus_per_run=1)
    assert limit_in_flight(options, FakeWorkers(memory_bytes=0, is_shared=True)) == 1
