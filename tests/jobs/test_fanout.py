import itertools
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from jobs.cluster import memory_of_a_node, ray, reserved_device
from jobs.fanout import LOST_NODES, RETRIES, FanOut, Needs, Task

pytestmark = pytest.mark.ray
lost = ray.exceptions


@pytest.fixture(scope="module", autouse=True)
def connected(own_cluster):
    """Workers have the project's packages, but not its tests."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def fan_out(tasks, needs):
    work = FanOut(needs)
    work.add(tasks)
    return work


def double(number):
    if number < 0:
        raise ValueError(f"number {number}, expected 0 or more")
    return 2 * number


def die_once(marker):
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def die_always(log):
    with Path(log).open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def threads():
    return torch.get_num_threads()


def test_every_task_ends_with_its_result():
    tasks = [Task(str(i), double, {"number": i}) for i in range(40)]
    results = {outcome.task.name: outcome.result for outcome in fan_out(tasks, Needs(cpus=0.5))}
    assert results == {str(i): 2 * i for i in range(40)}


def test_a_task_that_fails_is_named_with_its_error_and_does_not_stop_the_others():
    tasks = [Task(str(i), double, {"number": i}) for i in (1, -1, 2)]
    outcomes = {outcome.task.name: outcome for outcome in fan_out(tasks, Needs())}
    assert outcomes["-1"].error == "ValueError: number -1, expected 0 or more"
    assert (outcomes["1"].result, outcomes["2"].result) == (2, 4)


def test_a_task_whose_worker_is_killed_runs_again(tmp_path):
    tasks = [Task("fragile", die_once, {"marker": str(tmp_path / "marker")})]
    assert [outcome.result for outcome in fan_out(tasks, Needs())] == ["survived"]


def test_a_task_that_kills_every_worker_is_given_up_after_its_retries(tmp_path):
    log = tmp_path / "log"
    (outcome,) = fan_out([Task("hopeless", die_always, {"log": str(log)})], Needs())
    assert outcome.error.startswith("WorkerCrashedError")
    assert log.read_text() == "xxxx"  # once, and three retries


@pytest.mark.parametrize(
    ("error", "times", "ends_well"),
    [
        (lost.NodeDiedError("gone"), LOST_NODES, True),
        (lost.NodeDiedError("gone"), LOST_NODES + 1, False),
        (lost.LocalRayletDiedError(), LOST_NODES, True),
        (lost.OutOfMemoryError("full"), RETRIES, True),
        (lost.OutOfMemoryError("full"), RETRIES + 1, False),
        (lost.RaySystemError("broken"), 1, False),
    ],
)
def test_a_lost_node_is_no_fault_of_the_task_and_want_of_memory_may_be(
    monkeypatch, error, times, ends_well
):
    errors, get = itertools.repeat(error, times), ray.get

    def losing(reference):
        if (this := next(errors, None)) is not None:
            raise this
        return get(reference)

    monkeypatch.setattr("jobs.fanout.ray.get", losing)
    (outcome,) = fan_out([Task("one", double, {"number": 1})], Needs())
    assert (outcome.error is None, outcome.result == 2) == (ends_well, ends_well)
    assert ends_well or outcome.error.startswith(type(error).__name__)
    assert next(errors, None) is None  # as often as it was lost, and then no more


def test_torch_uses_the_cores_that_the_task_reserved():
    (outcome,) = fan_out([Task("threads", threads, {})], Needs(cpus=1))
    assert outcome.result == 1
    if (os.cpu_count() or 1) >= 2:
        (outcome,) = fan_out([Task("threads", threads, {})], Needs(cpus=2))
        assert outcome.result == 2


def spell():
    started = time.monotonic()
    time.sleep(0.3)
    return started, time.monotonic()


def test_tasks_that_need_most_of_the_memory_run_one_after_the_other():
    needs = Needs(cpus=0.5, memory_bytes=int(0.6 * memory_of_a_node()))
    tasks = [Task(str(i), spell, {}, needs=needs) for i in range(3)]
    spells = sorted(outcome.result for outcome in fan_out(tasks, Needs()))
    for (_, ended), (started, _) in itertools.pairwise(spells):
        assert started >= ended


def test_no_more_tasks_are_submitted_at_once_than_asked():
    work = FanOut(Needs(cpus=0.5), in_flight=1)
    work.add([Task(str(i), spell, {}) for i in range(3)])
    spells = sorted(outcome.result for outcome in work)
    for (_, ended), (started, _) in itertools.pairwise(spells):
        assert started >= ended


def test_an_interrupt_that_rays_own_code_loses_is_heard_all_the_same(monkeypatch):
    # A shell that starts pytest in the background lets it ignore Ctrl-C.
    wait, before = ray.wait, signal.getsignal(signal.SIGINT)

    def losing(*arguments, **options):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        except KeyboardInterrupt:
            pass
        return wait(*arguments, **options)

    monkeypatch.setattr("jobs.fanout.ray.wait", losing)
    with pytest.raises(KeyboardInterrupt):
        list(fan_out([Task("spell", spell, {})], Needs()))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_cluster_of_ones_own_listens_on_loopback_only(own_cluster):
    (outcome,) = fan_out([Task("one", double, {"number": 1})], Needs())
    assert outcome.result == 2
    this = psutil.Process()
    started = [process for process in this.children() if process not in own_cluster]
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


def test_a_task_without_a_reserved_gpu_computes_on_the_cpu():
    (outcome,) = fan_out([Task("device", reserved_device, {})], Needs())
    assert outcome.result == torch.device("cpu")
