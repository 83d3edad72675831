"""Which machines Ray's autoscaler starts: spot first, on demand where there is no spot machine.

Runs on the head of a cluster that `ray up` made, which copies this file there and names it in
RAY_AUTOSCALER_UTILIZATION_SCORER. Without it, Ray would go on asking for a type that cannot be
started, although another one would do (Ray 2.60; its second autoscaler has no such hook, so
aws.yaml and gcp.yaml use the first).
"""

from typing import Any

# The hook takes the place of this function, and its score extends what the function returns.
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer

SPOT = "_spot"
"""The names of node types that are spot machines end with this."""

Resources = dict[str, Any]


def score(
    node_resources: Resources,
    resources: list[Resources],
    node_type: str,
    *,
    node_availability_summary: Any,
) -> tuple[Any, ...] | None:
    """Score how well a node type fits the waiting tasks; Ray starts the one with the highest score.

    Args:
        node_resources: the resources of a machine of this type.
        resources: what the waiting tasks reserve, one mapping for each task.
        node_type: its name in the cluster file.
        node_availability_summary: Ray's summary of which types could be started in the last half
            hour.

    Returns:
        Ray's own score, with three parts that decide first: whether no GPU would be idle, whether
        the type was available when Ray last asked for it, and whether it is spot. None if no task
        fits.
    """
    ray_score = _default_utilization_scorer(
        node_resources, resources, node_type, node_availability_summary=node_availability_summary
    )
    if ray_score is None:
        return None
    record = node_availability_summary.node_availabilities.get(node_type)
    is_available = record is None or record.is_available
    wastes_no_gpu, *fit = ray_score
    return (wastes_no_gpu, is_available, node_type.endswith(SPOT), *fit)
