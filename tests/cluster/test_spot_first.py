"""Which machines Ray's own scheduler starts with cluster/spot_first.py."""

import pytest
from ray.autoscaler._private.node_provider_availability_tracker import (
    NodeProviderAvailabilityTracker,
)
from ray.autoscaler._private.resource_demand_scheduler import ResourceDemandScheduler
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.node_launch_exception import NodeLaunchException

ONE_GPU, ONE_CPU = {"CPU": 1, "GPU": 1}, {"CPU": 1}


@pytest.fixture(params=["aws.yaml", "gcp.yaml"])
def to_start(read, request, monkeypatch):
    """Return a function that returns which machines a cluster without workers starts for tasks."""
    monkeypatch.setenv("RAY_AUTOSCALER_UTILIZATION_SCORER", "cluster.spot_first.score")
    config = prepare_config(read(request.param))

    def decide(waiting, unavailable=()):
        tracker = NodeProviderAvailabilityTracker(timer=lambda: 0)
        for node_type in unavailable:
            refused = NodeLaunchException("InsufficientInstanceCapacity", "none left", None)
            tracker.update_node_availability(node_type, 0, refused)
        scheduler = ResourceDemandScheduler(
            None,
            config["available_node_types"],
            config["max_workers"],
            config["head_node_type"],
            config["upscaling_speed"],
        )
        started, left = scheduler.get_nodes_to_launch(
            nodes=[],
            launching_nodes={},
            resource_demands=waiting,
            unused_resources_by_ip={},
            pending_placement_groups=[],
            max_resources_by_ip={},
            ensure_min_cluster_size=[],
            node_availability_summary=tracker.summary(),
        )
        # There are no machines yet, so Ray also starts the head.
        assert started.pop(config["head_node_type"]) == 1
        return started, left

    return decide


def test_spot_is_taken_first(to_start):
    assert to_start([ONE_GPU] * 3) == ({"gpu_spot": 3}, [])


def test_what_is_not_available_as_spot_is_started_on_demand(to_start):
    assert to_start([ONE_GPU] * 3, ["gpu_spot"]) == ({"gpu_on_demand": 3}, [])


def test_spot_is_tried_again_if_nothing_is_available(to_start):
    started, _ = to_start([ONE_GPU], ["gpu_spot", "gpu_on_demand"])
    assert started == {"gpu_spot": 1}


def test_tasks_without_gpu_start_no_gpu_even_if_only_gpus_are_available(to_start):
    assert to_start([ONE_CPU] * 2) == ({"cpu_spot": 1}, [])
    assert to_start([ONE_CPU] * 2, ["cpu_spot"]) == ({"cpu_spot": 1}, [])


def test_no_more_machines_are_started_than_the_cluster_may_have(to_start):
    started, left = to_start([ONE_GPU] * 100)
    # Ray starts at most five at a time in a cluster without workers.
    assert started == {"gpu_spot": 5}
    assert len(left) == 100 - 8


def test_nothing_is_started_for_what_fits_nowhere(to_start):
    started, left = to_start([{"CPU": 1, "GPU": 64}])
    assert started == {}
    assert len(left) == 1
