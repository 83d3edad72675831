"""Logs and metrics of tasks on real workers of Ray."""

import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from job_logs import write_clips

from jobs.log import gauges
from jobs.log.task_log import log_line
from jobs.log.watcher import Watcher
from jobs.schedule.fanout import FanOut
from jobs.schedule.job_log import JobLog
from jobs.schedule.task import Needs, Task
from logit_store import LogitStore


@pytest.fixture(scope="module", autouse=True)
def workers(own_cluster):
    """Workers of Ray, which have the project's packages and not its tests."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return own_cluster.workers


@dataclass(frozen=True)
class TrainUntil:
    """Work that logs an epoch and goes on until a file exists."""

    marker: str

    def run(self):
        log_line("epoch 1/3", epoch=1, max_epochs=3, clips_per_s=321.0, time_left_s=5.0)
        while not Path(self.marker).exists():
            time.sleep(0.05)


@dataclass(frozen=True)
class Die:
    def run(self):
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Refuse:
    def run(self):
        raise ValueError("batch size 0, expected 1 or more")


def exported(job):
    """Return a job's metrics at the port of the only node, by name and recipe."""
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except urllib.error.URLError:  # the port is not open yet
        return {}
    found = {}
    for line in lines:
        if match := re.fullmatch(r"ray_(tutti_\w+)\{(.*)\} (\S+)", line):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            if labels["tutti_job"] == job:
                found[match[1], labels["recipe"]] = float(match[3])
    return found


def test_the_store_and_prometheus_show_how_tasks_go(workers, tmp_path, wait_for):
    store, marker = LogitStore(str(tmp_path / "store")), tmp_path / "marker"
    write_clips(store)
    training = Task("demo_mn split 25 seed 0", TrainUntil(str(marker)))
    tasks = [training, Task("refusing", Refuse()), Task("dying", Die())]
    with JobLog(store) as log:
        log.plan(tasks, [False] * 3)
        work = FanOut(workers, Needs(cpus=0.3), log=log)
        work.add(tasks)
        outcomes = []
        thread = threading.Thread(target=lambda: outcomes.extend(work), daemon=True)
        thread.start()
        try:
            expected = {
                (gauges.TASKS_LEFT, "demo_mn"): 1,
                (gauges.TASKS_RUNNING, "demo_mn"): 1,
                (gauges.CLIPS_PER_S, "demo_mn"): 321,
            }
            wait_for(
                lambda: expected.items() <= exported(log.job).items(),
                "the metrics of driver and worker",
            )
            wait_for(
                lambda: Watcher(store).read_job(log.job).find_tasks("running"), "a sign of life"
            )
        finally:
            marker.touch()
            thread.join()
    found = {each.planned.name: each for each in Watcher(store).read_job(log.job).tasks}
    assert {name: each.state for name, each in found.items()} == {
        "demo_mn split 25 seed 0": "done",
        "refusing": "failed",
        "dying": "failed",
    }
    assert found["refusing"].error == "ValueError: batch size 0, expected 1 or more"
    assert found["dying"].error.startswith("WorkerCrashedError")
    (attempt,) = Watcher(store).find_attempts(log.job, "demo_mn split 25 seed 0")
    assert attempt.lines == ["epoch 1/3"]
