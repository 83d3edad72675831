"""Logs and metrics of units that real workers of Ray run."""

import os
import re
import signal
import sys
import threading
import urllib.error
import urllib.request

import pytest
from job_logs import write_clips

from jobs import gauges
from jobs.cluster import ray
from jobs.fanout import FanOut, Needs, Task
from jobs.job_log import JobLog
from jobs.progress import Watcher
from jobs.unit_log import tell
from logit_store import LogitStore

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def connected(own_cluster):
    """Workers have the project's packages, but not its tests."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def learn_until(marker):
    """Tells of an epoch, and goes on until there is a file."""
    import time
    from pathlib import Path

    tell("epoch 1/3", epoch=1, max_epochs=3, clips_per_s=321.0, time_left_s=5.0)
    while not Path(marker).exists():
        time.sleep(0.05)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def refuse():
    raise ValueError("batch size 0, expected 1 or more")


def exported(job):
    """A job's metrics at the port of the only node, by name and recipe."""
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except urllib.error.URLError:  # nobody listens yet
        return {}
    found = {}
    for line in lines:
        if match := re.fullmatch(r"ray_(tutti_\w+)\{(.*)\} (\S+)", line):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            if labels["tutti_job"] == job:
                found[match[1], labels["recipe"]] = float(match[3])
    return found


def test_units_tell_the_store_and_prometheus_how_they_go(tmp_path, wait_for):
    store, marker = LogitStore(str(tmp_path / "store")), tmp_path / "marker"
    write_clips(store)
    learning = Task("demo_mn split 25 seed 0", learn_until, {"marker": str(marker)})
    tasks = [learning, Task("refusing", refuse, {}), Task("dying", die, {})]
    with JobLog(store) as log:
        log.plan(tasks, [False] * 3)
        work = FanOut(Needs(cpus=0.3), log=log)
        work.add(tasks)
        outcomes = []
        thread = threading.Thread(target=lambda: outcomes.extend(work), daemon=True)
        thread.start()
        try:
            told = {
                (gauges.UNITS_LEFT, "demo_mn"): 1,
                (gauges.UNITS_RUNNING, "demo_mn"): 1,
                (gauges.CLIPS_PER_S, "demo_mn"): 321,
            }
            wait_for(
                lambda: told.items() <= exported(log.job).items(), "what driver and worker tell"
            )
            wait_for(lambda: Watcher(store).look(log.job).in_state("running"), "a sign of life")
        finally:
            marker.touch()
            thread.join()
    units = {each.planned.name: each for each in Watcher(store).look(log.job).units}
    assert {name: each.state for name, each in units.items()} == {
        "demo_mn split 25 seed 0": "done",
        "refusing": "failed",
        "dying": "failed",
    }
    assert units["refusing"].error == "ValueError: batch size 0, expected 1 or more"
    assert units["dying"].error.startswith("WorkerCrashedError")
    assert units["demo_mn split 25 seed 0"].attempt.lines == ["epoch 1/3"]
