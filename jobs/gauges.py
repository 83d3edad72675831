"""What Ray's metrics ports tell Prometheus of us, as `ray_NAME`; see cluster/grafana."""

import functools
import socket

from ray.util.metrics import Gauge

UNITS_LEFT = "tutti_units_left"
UNITS_DONE = "tutti_units_done"
UNITS_FAILED = "tutti_units_failed"
UNITS_RUNNING = "tutti_units_running"
CLIPS_PER_S = "tutti_clips_per_s"

DESCRIPTIONS = {
    UNITS_LEFT: "Units of a job that have not ended: those that wait and those that run.",
    UNITS_DONE: "Units of a job whose results are in the store.",
    UNITS_FAILED: "Units of a job that failed.",
    UNITS_RUNNING: "Units that a worker runs now.",
    CLIPS_PER_S: "Clips learnt from, per second of the last epoch.",
}
"""All that we export. The first three come from a job's driver, the others from each worker."""
# `job` would be the obvious word, but Prometheus puts its own label of that name over it.
TAGS = ("tutti_job", "recipe", "node")


def show(name: str, value: float, *, job: str, recipe: str) -> None:
    """Let a metric of this process have a value until it is exported next, every ten seconds."""
    tags = dict(zip(TAGS, (job, recipe, socket.gethostname()), strict=True))
    _gauge(name).set(value, tags)


def recipe_of(unit: str) -> str:
    """What a unit is counted under: its name's first word, which says what is taught."""
    return unit.partition(" ")[0]


@functools.cache
def _gauge(name: str) -> Gauge:
    return Gauge(name, DESCRIPTIONS[name], TAGS)
