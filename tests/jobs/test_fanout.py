"""The fan-out, and workers in this process."""

import itertools
import os
import signal
import time
from types import SimpleNamespace

import pytest
import ray
from fake_workers import FakeWorkers
from ray.exceptions import LocalRayletDiedError
from workers_suite import Double, WorkersSuite, fan_out

from jobs.log.watcher import Watcher
from jobs.schedule.carry_out import carry_out
from jobs.schedule.fanout import LOST_NODES, RETRIES
from jobs.schedule.ray_workers import RayWorkers
from jobs.schedule.task import Needs, Task
from jobs.schedule.workers import FailedScheduling, InProcess, LostNode, LostWorker
from logit_store import LogitStore
from terminal.console import UserError

ONE = Task("one", Double(1))


class TestInProcess(WorkersSuite):
    @pytest.fixture
    def workers(self):
        return InProcess()


@pytest.mark.parametrize(
    ("error", "times", "ends_well"),
    [
        (LostNode("gone"), LOST_NODES, True),
        (LostNode("gone"), LOST_NODES + 1, False),
        (LostWorker("killed"), RETRIES, True),
        (LostWorker("killed"), RETRIES + 1, False),
        (FailedScheduling("broken"), 1, False),
    ],
)
def test_a_lost_node_is_no_fault_of_the_task_and_a_lost_worker_may_be(error, times, ends_well):
    losses = itertools.repeat(error, times)
    (outcome,) = fan_out(FakeWorkers(losses), [ONE])
    assert (outcome.error, outcome.result) == ((None, 2) if ends_well else (str(error), None))
    assert next(losses, None) is None  # it was tried as often as it was lost, and then no more


def test_a_job_ends_with_one_message_when_ray_on_its_machine_has_ended(
    monkeypatch, tmp_path, capsys
):
    class OfADeadRaylet(InProcess):
        def fetch(self, handle):
            return RayWorkers(is_shared=False).fetch(handle)

    def lose(handle):
        raise LocalRayletDiedError

    monkeypatch.setattr(ray, "get", lose)
    store = LogitStore(tmp_path / "store")
    with pytest.raises(UserError, match="has ended .* the same command continues where"):
        carry_out([ONE, Task("two", Double(2))], store, OfADeadRaylet(), Needs())
    assert "runs again" not in capsys.readouterr().err
    (job,) = Watcher(store).list_jobs()
    assert Watcher(store).read_job(job).driver.state == "interrupted"


def test_a_task_that_was_lost_runs_again_before_those_that_wait():
    tasks = [Task(str(i), Double(i)) for i in range(3)]
    ended = fan_out(FakeWorkers([LostNode("gone")]), tasks, in_flight=1)
    assert [outcome.task.name for outcome in ended] == ["0", "1", "2"]


def test_no_more_tasks_are_submitted_at_once_than_asked():
    class Counting(InProcess):
        most = now = 0

        def submit(self, attempt):
            self.now += 1
            self.most = max(self.most, self.now)
            return super().submit(attempt)

        def fetch(self, handle):
            self.now -= 1
            return super().fetch(handle)

    workers = Counting()
    assert (
        len(list(fan_out(workers, [Task(str(i), Double(i)) for i in range(9)], in_flight=4))) == 9
    )
    assert workers.most == 4


def test_an_interrupt_that_gets_lost_in_the_workers_code_is_noticed_all_the_same():
    class Losing(InProcess):
        def wait(self, handles, timeout_s):
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
            except KeyboardInterrupt:
                pass
            return super().wait(handles, timeout_s)

    # A shell that starts pytest in the background makes it ignore Ctrl-C.
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        list(fan_out(Losing(), [ONE]))
    assert signal.getsignal(signal.SIGINT) is before


def test_waiting_ends_when_a_process_of_rays_that_the_job_started_has_died(monkeypatch):
    node = SimpleNamespace(dead_processes=lambda: [("log_monitor", None)])
    monkeypatch.setattr("jobs.schedule.ray_private.worker._global_node", node)
    monkeypatch.setattr(ray, "wait", lambda handles, num_returns, timeout: ([], handles))
    assert not RayWorkers(is_shared=False).wait([1], 1.0)
    node.dead_processes = lambda: [("raylet", None)]
    with pytest.raises(UserError, match="has ended"):
        RayWorkers(is_shared=False).wait([1], 1.0)
