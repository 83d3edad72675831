"""Tasks on real workers of Ray."""

import itertools
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import ray
import torch
import workers_suite
from ray import exceptions
from workers_suite import Double, WorkersSuite, fan_out

from jobs.schedule import cluster
from jobs.schedule.job_log import JobLog
from jobs.schedule.task import Needs, Task
from jobs.schedule.workers import FailedScheduling, LostNode, LostWorker
from jobs.worker.device import find_reserved_device
from logit_store import LogitStore
from terminal.console import UserError


@pytest.fixture(scope="module", autouse=True)
def workers(own_cluster):
    """Workers of Ray, which have the project's packages and not its tests."""
    for module in (sys.modules[__name__], workers_suite):
        ray.cloudpickle.register_pickle_by_value(module)
    return own_cluster.workers


class TestOnRay(WorkersSuite):
    """The suite, on Ray's workers."""


@dataclass(frozen=True)
class DieOnce:
    marker: str

    def run(self):
        if not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"


@dataclass(frozen=True)
class DieAlways:
    log: str

    def run(self):
        with Path(self.log).open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class HangOnce:
    """Work that stops its own process, which even SIGTERM does not end then, the first time."""

    marker: str

    def run(self):
        if not Path(self.marker).exists():
            Path(self.marker).write_text(str(os.getpid()))
            # The log is begun after two seconds.
            time.sleep(3)
            os.kill(os.getpid(), signal.SIGSTOP)
        return "survived"


@dataclass(frozen=True)
class Spell:
    def run(self):
        started = time.monotonic()
        time.sleep(0.3)
        return started, time.monotonic()


@dataclass(frozen=True)
class FindDevice:
    def run(self):
        return find_reserved_device()


def test_a_task_whose_worker_is_killed_runs_again(workers, tmp_path):
    (outcome,) = fan_out(workers, [Task("fragile", DieOnce(str(tmp_path / "marker")))])
    assert outcome.result == "survived"


def test_a_task_that_kills_every_worker_is_given_up_after_its_retries(workers, tmp_path):
    log = tmp_path / "log"
    (outcome,) = fan_out(workers, [Task("hopeless", DieAlways(str(log)))])
    assert outcome.error.startswith("WorkerCrashedError")
    assert log.read_text() == "xxxx"  # once, and three retries


def test_a_task_that_hangs_is_killed_after_its_timeout_and_runs_again(
    workers, tmp_path, capsys, wait_for
):
    task = Task("stuck", HangOnce(str(tmp_path / "marker")))
    with JobLog(LogitStore(tmp_path / "store")) as log:
        log.plan([task], [False])
        (outcome,) = fan_out(workers, [task], log=log, timeout_s=2)
    assert outcome.result == "survived"
    assert "stuck runs again: stopped after it had reported nothing for" in capsys.readouterr().err
    hung = int((tmp_path / "marker").read_text())
    wait_for(lambda: not psutil.pid_exists(hung), "the end of the process", 30)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.NodeDiedError("gone"), LostNode),
        (exceptions.OutOfMemoryError("full"), LostWorker),
        (exceptions.WorkerCrashedError(), LostWorker),
        (exceptions.RaySystemError("broken"), FailedScheduling),
    ],
)
def test_an_error_of_rays_says_what_was_lost(workers, monkeypatch, error, expected):
    def lose(reference):
        raise error

    monkeypatch.setattr("jobs.schedule.ray_workers.ray.get", lose)
    with pytest.raises(expected, match=type(error).__name__):
        workers.fetch(None)


def ran_in_turn(work):
    spells = sorted(outcome.result for outcome in work)
    return all(started >= ended for (_, ended), (started, _) in itertools.pairwise(spells))


def test_tasks_that_need_most_of_the_memory_run_one_after_the_other(workers):
    needs = Needs(cpus=0.5, memory_bytes=int(0.6 * workers.find_largest_memory_bytes()))
    tasks = [Task(str(i), Spell(), needs=needs) for i in range(3)]
    assert ran_in_turn(fan_out(workers, tasks))


def test_no_more_tasks_run_at_once_than_asked(workers):
    tasks = [Task(str(i), Spell()) for i in range(3)]
    assert ran_in_turn(fan_out(workers, tasks, Needs(cpus=0.5), in_flight=1))


def test_a_cluster_of_ones_own_listens_on_loopback_only(workers, own_cluster):
    (outcome,) = fan_out(workers, [Task("one", Double(1))])
    assert outcome.result == 2
    this = psutil.Process()
    started = [child for child in this.children() if child not in own_cluster.other_children]
    assert len(started) > 2
    processes = [this, *started, *(each for p in started for each in p.children(recursive=True))]
    listening = {
        each.laddr.ip
        for process in processes
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_task_without_a_reserved_gpu_computes_on_the_cpu(workers):
    (outcome,) = fan_out(workers, [Task("device", FindDevice())])
    assert outcome.result == torch.device("cpu")


def test_a_cluster_that_does_not_start_is_one_clear_error(monkeypatch):
    def fail(**settings):
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 - as Ray does

    monkeypatch.setattr(cluster, "find_cluster", lambda: None)
    monkeypatch.setattr(ray, "init", fail)
    expected = pytest.raises(UserError, match=r"Ray did not start on this machine: .*timed out")
    with expected, cluster.connect():
        pass
