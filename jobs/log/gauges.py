"""The metrics that Ray exports for this process to Prometheus, as `ray_NAME` (see cluster/grafana)."""

import functools
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

TASKS_LEFT = "tutti_units_left"
TASKS_DONE = "tutti_units_done"
TASKS_FAILED = "tutti_units_failed"
TASKS_RUNNING = "tutti_units_running"
CLIPS_PER_S = "tutti_clips_per_s"

DESCRIPTIONS = {
    TASKS_LEFT: "Tasks of a job that have not ended: those that wait and those that run.",
    TASKS_DONE: "Tasks of a job whose results are in the store.",
    TASKS_FAILED: "Tasks of a job that failed.",
    TASKS_RUNNING: "Tasks that a worker runs now.",
    CLIPS_PER_S: "Clips trained on per second, in the last epoch.",
}
"""All exported metrics. The first three come from a job's driver, the others from each worker."""
# `job` would be the obvious name, but Prometheus overwrites it with its own label of that name.
TAGS = ("tutti_job", "recipe", "node")


def set_gauge(name: str, value: float, *, job: str, recipe: str) -> None:
    """Set a metric of this process, which Ray exports every ten seconds.

    Without Ray in this process nobody exports it, so nothing is done.
    """
    # Ray takes seconds to import, and commands that do not use it keep logs too.
    if "ray" not in sys.modules:
        return
    import ray

    if not ray.is_initialized():
        return
    tags = dict(zip(TAGS, (job, recipe, socket.gethostname()), strict=True))
    _find_gauge(name).set(value, tags)


def parse_recipe(task: str) -> str:
    """Return the first word of a task's name: the recipe, which the metrics are counted by."""
    return task.partition(" ")[0]


@functools.cache
def _find_gauge(name: str) -> "Gauge":
    from ray.util.metrics import Gauge

    return Gauge(name, DESCRIPTIONS[name], TAGS)
