"""A cluster that scales from zero has GPUs that are not there yet."""

import math
from types import SimpleNamespace

import pytest
import yaml
from ray.core.generated import autoscaler_pb2

from jobs import autoscaling, cluster, teachers
from jobs.autoscaling import NodeType, node_types, read_types
from jobs.command import UserError
from jobs.fanout import IN_FLIGHT
from jobs.learning import LearningOptions
from jobs.teacher_runs import TeachersOptions

GIB = 1024**3
CONFIG = {
    "cluster_name": "tutti",
    "max_workers": 8,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0, "memory": 64 * GIB}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 4, "GPU": 1, "memory": 10 * GIB}, "max_workers": 6},
        "large": {"resources": {"CPU": 16, "GPU": 4}, "max_workers": 100},
        "cpu": {"resources": {"CPU": 8, "memory": 20 * GIB}},
    },
}


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(CONFIG))
    return file


@pytest.fixture
def only_a_head(monkeypatch):
    """A connected cluster whose only node takes no tasks."""
    head = {"Alive": True, "Resources": {"memory": 64.0 * GIB}}
    fake = SimpleNamespace(cluster_resources=lambda: {"memory": 64.0 * GIB}, nodes=lambda: [head])
    monkeypatch.setattr(cluster, "ray", fake)


def may_come(monkeypatch, *types):
    monkeypatch.setattr(cluster, "node_types", lambda: list(types))


def test_a_cluster_file_tells_what_may_come_within_its_limits(config):
    found = {tuple(each.resources.items())[0:2]: each.n_most for each in read_types(config)}
    assert found == {
        (("CPU", 4), ("GPU", 1)): 6,
        (("CPU", 16), ("GPU", 4)): 8,
        (("CPU", 8), ("memory", 20 * GIB)): 8,
    }


def connect(monkeypatch, address, reported=None):
    context = SimpleNamespace(gcs_address=address)
    monkeypatch.setattr(autoscaling.ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(autoscaling, "state", SimpleNamespace(get_cluster_config=lambda: reported))


def processes(monkeypatch, *commands):
    found = [SimpleNamespace(info={"cmdline": command}) for command in (None, [], *commands)]
    monkeypatch.setattr(autoscaling.psutil, "process_iter", lambda wanted: found)


def test_the_autoscaler_of_this_very_cluster_is_asked(config, monkeypatch):
    command = ["python", "monitor.py", f"--autoscaling-config={config}", "--gcs-address=10.0.0.1:6"]
    processes(monkeypatch, ["python", "other.py"], command)
    connect(monkeypatch, "10.0.0.1:6")
    assert node_types() == read_types(config)
    connect(monkeypatch, "10.0.0.2:6")
    assert node_types() == []


def test_what_an_autoscaler_reports_to_the_cluster_goes_first(monkeypatch):
    groups = [
        autoscaler_pb2.NodeGroupConfig(resources={"CPU": 4, "GPU": 2}, max_count=3),
        autoscaler_pb2.NodeGroupConfig(resources={"CPU": 1}, max_count=-1),
    ]
    connect(monkeypatch, "here", autoscaler_pb2.ClusterConfig(node_group_configs=groups))
    assert node_types() == [NodeType({"CPU": 4, "GPU": 2}, 3), NodeType({"CPU": 1}, math.inf)]


@pytest.mark.usefixtures("only_a_head")
def test_runs_reserve_gpus_that_are_still_to_come(monkeypatch):
    may_come(monkeypatch)
    assert LearningOptions().needs().gpus == 0
    may_come(monkeypatch, NodeType({"CPU": 4, "GPU": 1}, 6), NodeType({"CPU": 16, "GPU": 4}, 2))
    assert cluster.gpus_in_cluster() == 14
    assert LearningOptions().needs().gpus == 1


@pytest.mark.usefixtures("only_a_head")
def test_the_memory_of_a_node_is_that_of_one_that_takes_tasks(monkeypatch):
    may_come(monkeypatch)
    assert cluster.memory_of_a_node() == 0
    types = [NodeType({"CPU": 4, "memory": n * GIB}, n_most) for n, n_most in ((10, 2), (30, 0))]
    may_come(monkeypatch, *types)
    assert cluster.memory_of_a_node() == 10 * GIB


@pytest.mark.usefixtures("only_a_head")
def test_teachers_on_several_gpus_wait_for_those_that_may_come(monkeypatch):
    options = TeachersOptions(gpus_per_teacher=4)
    may_come(monkeypatch, NodeType({"CPU": 4, "GPU": 1}, 9))
    assert teachers.in_flight(options) == 3
    may_come(monkeypatch, NodeType({"CPU": 4, "GPU": 1}, math.inf))
    assert teachers.in_flight(options) == IN_FLIGHT
    may_come(monkeypatch, NodeType({"CPU": 4, "GPU": 1}, 3))
    with pytest.raises(UserError, match="the cluster has 3 GPUs"):
        teachers.in_flight(options)
