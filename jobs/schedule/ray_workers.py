"""The workers of the connected Ray cluster."""

import contextlib
from collections.abc import Sequence
from typing import Any

import psutil
import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.log.files import AttemptRecord
from jobs.schedule.ray_private import has_ended
from jobs.schedule.task import Work, WorkOnInput
from jobs.schedule.workers import (
    Attempt,
    FailedScheduling,
    LostCluster,
    LostNode,
    LostWorker,
    TaskError,
    run_attempt,
)

INPUT_RETRIES = 3
"""How often Ray itself repeats an input whose worker died."""


class RayWorkers:
    """Runs each attempt as a Ray task (see `jobs.schedule.workers.Workers`).

    Args:
        is_shared: whether the cluster ran before this command.
    """

    def __init__(self, *, is_shared: bool) -> None:
        self.is_shared = is_shared
        # One remote function for all, because Ray keeps the order of calls of the same function only.
        # No retries by Ray: it would count a lost node as a fault of the task, and retry a lack of
        # memory without end. The fan-out decides.
        self._run: Any = ray.remote(max_retries=0)(run_attempt)
        self._inputs: dict[Work, ray.ObjectRef] = {}

    def submit(self, attempt: Attempt) -> ray.ObjectRef:
        """Submit an attempt; its input, if it has one, is read once and stays in Ray's store."""
        needs = attempt.needs
        remote = self._run.options(
            name=attempt.name,
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            memory=needs.memory_bytes or None,
        )
        if not isinstance(attempt.work, WorkOnInput):
            return remote.remote(attempt)
        # Ray passes what a reference stands for, without a copy on a node.
        return remote.remote(attempt, self._submit_input(attempt.work.input))

    def _submit_input(self, work: Work) -> ray.ObjectRef:
        if work not in self._inputs:
            read = ray.remote(max_retries=INPUT_RETRIES)(_run_input)
            self._inputs[work] = read.options(name=str(work)).remote(work)
        return self._inputs[work]

    def wait(self, handles: Sequence[ray.ObjectRef], timeout_s: float) -> Sequence[ray.ObjectRef]:
        """Return one that has ended, or none after the time.

        Raises:
            LostCluster: none can end, because Ray has ended on the node of this process.
        """
        ready, _ = ray.wait(list(handles), num_returns=1, timeout=timeout_s)
        # Ray itself would wait for a minute, and then end this process without a word to the job.
        if not ready and has_ended():
            raise LostCluster.of_this_command()
        return ready

    def fetch(self, handle: ray.ObjectRef) -> tuple[Any, float]:
        """Return the result of an attempt that has ended, and how long it took in seconds.

        Raises:
            TaskError, LostWorker, LostNode, FailedScheduling: it ended otherwise.
            LostCluster: Ray has ended on the node of this process.
        """
        try:
            return ray.get(handle)
        except RayTaskError as error:
            raise TaskError(type(error.cause).__name__, str(error.cause)) from error
        except LocalRayletDiedError as error:
            # Ray says so to a driver only, whose own node no longer takes tasks for any node.
            raise LostCluster.of_this_command() from error
        except NodeDiedError as error:
            raise LostNode(_describe(error)) from error
        except (WorkerCrashedError, OutOfMemoryError, TaskCancelledError) as error:
            raise LostWorker(_describe(error)) from error
        except RayError as error:
            raise FailedScheduling(_describe(error)) from error

    def stop(self, handle: ray.ObjectRef) -> None:
        """End the attempt's process: Ray kills it after five seconds, if nothing else helps."""
        ray.cancel(handle, force=True)

    def count_cpus(self) -> float:
        """Return the number of cores of all present nodes."""
        return ray.cluster_resources().get("CPU", 0.0)

    def count_gpus(self) -> float:
        """Return the number of GPUs of all present nodes."""
        return ray.cluster_resources().get("GPU", 0.0)

    def find_largest_memory_bytes(self) -> int:
        """Return the most memory that one task can reserve, on the largest node.

        It is 0 (not known) as long as the cluster has no node that takes tasks.
        """
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        # A head that takes no tasks has memory, but not for them.
        with_cpus = [each for each in nodes if each.get("CPU")]
        return int(max((each.get("memory", 0) for each in with_cpus), default=0))


def kill_process(record: AttemptRecord) -> None:
    """Kill the process of an attempt on its node, where an actor runs it whose handle Tune keeps."""
    nodes = [
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeManagerHostname"] == record.node
    ]
    # A node that is gone has taken the process with it.
    for node in nodes[:1]:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        kill = ray.remote(num_cpus=0, max_retries=0)(_kill_if_older)
        kill.options(scheduling_strategy=there).remote(record.pid, record.since)


def _kill_if_older(pid: int, since: float) -> None:
    """Kill a process, unless its number has been given to another one since that time (Unix)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.create_time() <= since:
            process.kill()


def _run_input(work: Work) -> Any:
    return work.run()


def _describe(error: RayError) -> str:
    return f"{type(error).__name__}: {error}"
