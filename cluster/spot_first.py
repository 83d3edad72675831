"""Which machines Ray's autoscaler starts: spot first, on demand where there is no spot to be had.

Runs on the head of a cluster that `ray up` made, which copies this file there and names it in
RAY_AUTOSCALER_UTILIZATION_SCORER. Without it a type that could not be started is tried again for
ever, though another would do (Ray 2.60; its second autoscaler has no such hook, so aws.yaml and
gcp.yaml use the first).
"""

from typing import Any

from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer
from ray.autoscaler._private.util import ResourceDict

SPOT = "_spot"
"""Ends the names of node types that are spot machines."""


def score(
    node_resources: ResourceDict,
    resources: list[ResourceDict],
    node_type: str,
    *,
    node_availability_summary: NodeAvailabilitySummary,
) -> tuple[Any, ...] | None:
    """How well a node type suits what waits: the type with the greatest score is started.

    Args:
        node_resources: what a machine of the type has.
        resources: what waits, one mapping for each task.
        node_type: its name in the cluster file.
        node_availability_summary: types that could, or could not, be started in the last half hour.

    Returns:
        Ray's own score, of which three parts decide first: whether GPUs would lie idle, whether
        the type was to be had when last asked for, and whether it is spot. None if nothing fits.
    """
    usual = _default_utilization_scorer(
        node_resources, resources, node_type, node_availability_summary=node_availability_summary
    )
    if usual is None:
        return None
    record = node_availability_summary.node_availabilities.get(node_type)
    to_be_had = record is None or record.is_available
    wastes_no_gpu, *fit = usual
    return (wastes_no_gpu, to_be_had, node_type.endswith(SPOT), *fit)
