"""The progress of a job: the states of its tasks, the time left, and the use of the nodes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.log.bulletin import LOST_AFTER_S
from jobs.log.files import AttemptRecord, DriverRecord, PlannedTask

TaskState = Literal["done", "running", "stopped", "lost?", "failed", "waiting"]
"""stopped: ran when its job was interrupted; lost?: nobody knows what became of it."""
STATES: tuple[TaskState, ...] = ("done", "running", "stopped", "lost?", "failed", "waiting")

UNUSUAL_EPOCHS = 10
"""A task that has reported nothing for so many of its usual epochs may hang."""


def estimate_epoch_s(attempt: AttemptRecord) -> float | None:
    """Return the seconds of an attempt's last epoch, unless it is its very last or there was none."""
    n_left = (attempt.max_epochs or 0) - (attempt.epoch or 0)
    return attempt.time_left_s / n_left if attempt.time_left_s is not None and n_left > 0 else None


def is_unusual(silent_s: float, epoch_s: float | None) -> bool:
    """Return whether a silence is longer than many epochs, so that the attempt may hang.

    Signs of life are late themselves, so that short epochs say nothing.
    """
    return epoch_s is not None and silent_s > max(UNUSUAL_EPOCHS * epoch_s, LOST_AFTER_S)


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """The progress of one task."""

    planned: PlannedTask
    state: TaskState
    attempt: AttemptRecord | None = None
    """The last attempt, without the lines of its log, if it was read."""
    silent_s: float = 0.0
    """Seconds since the attempt's last sign of life."""
    error: str | None = None

    @property
    def running_s(self) -> float:
        """How long the attempt has been running."""
        if self.attempt is None:
            return 0.0
        return self.attempt.told - self.attempt.since + self.silent_s

    @property
    def unreported_s(self) -> float:
        """How long the attempt has reported nothing but signs of life, if that is known."""
        if self.attempt is None or self.attempt.reported is None:
            return self.silent_s
        return self.attempt.told - self.attempt.reported + self.silent_s

    @property
    def may_hang(self) -> bool:
        """Whether the attempt runs, and has reported nothing for many of its epochs."""
        return (
            self.state == "running"
            and self.attempt is not None
            and is_unusual(self.unreported_s, estimate_epoch_s(self.attempt))
        )

    @property
    def left_s(self) -> float | None:
        """How long the attempt will still run, at most; None if it has not said so."""
        if self.attempt is None or self.attempt.time_left_s is None:
            return None
        return max(0.0, self.attempt.time_left_s - self.silent_s)


@dataclass(frozen=True, slots=True)
class NodeUse:
    """The use that tasks make of a node, or made of it."""

    node: str
    n_tasks: int
    clips_per_s: float
    """Sum over its tasks; if the job is over, the mean over those with a rate."""
    n_gpus: int
    gpu_percent: float | None
    """Mean over the GPUs whose use is known."""
    gpu_memory_bytes: int
    """Bytes in use on the GPUs."""
    gpu_total_bytes: int


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The progress of a job."""

    job: str
    driver: DriverRecord
    silent_s: float
    """Seconds since the driver's last sign of life."""
    tasks: list[TaskProgress]

    @property
    def is_lost(self) -> bool:
        """Whether its driver stopped without saying so."""
        return self.driver.state == "running" and self.silent_s > LOST_AFTER_S

    @property
    def is_over(self) -> bool:
        """Whether nobody works on it any more."""
        return self.driver.state != "running" or self.is_lost

    @property
    def took_s(self) -> float:
        """Seconds from the start of the job to its driver's last sign of life."""
        return self.driver.told - self.driver.since

    @property
    def clips_per_s(self) -> float:
        """Clips trained on per second by all tasks that run."""
        return sum(_get_rate(task.attempt) for task in self.find_tasks("running"))

    def count_states(self) -> Counter[TaskState]:
        """Count the tasks in each state."""
        return Counter(task.state for task in self.tasks)

    def find_tasks(self, *states: TaskState) -> list[TaskProgress]:
        """Return the tasks in these states, in the order of the plan."""
        return [task for task in self.tasks if task.state in states]

    def estimate_time_left_s(self) -> float | None:
        """Estimate how long the job will go on; None as long as nothing is known.

        The running tasks take as long as the slowest of them says. Waiting tasks are done at the
        rate at which tasks were done so far, or if none was, at the rate of the running ones.
        """
        running, waiting = self.find_tasks("running"), self.find_tasks("waiting")
        left_s = [task.left_s for task in running]
        slowest_s = max((each for each in left_s if each is not None), default=None)
        n_done = sum(task.state == "done" and not task.planned.stored for task in self.tasks)
        if n_done:
            by_rate_s = (len(running) + len(waiting)) * self.took_s / n_done
            return max(by_rate_s, slowest_s or 0.0) if waiting else slowest_s
        if slowest_s is None or not waiting:
            return slowest_s
        whole_s = [
            task.running_s + left for task, left in zip(running, left_s, strict=True) if left
        ]
        mean_s = sum(whole_s) / len(whole_s) if whole_s else slowest_s
        return slowest_s + mean_s * len(waiting) / len(running)

    def measure_nodes(self) -> list[NodeUse]:
        """Return the use of each node now, or if the job is over, the use that was made of it."""
        tasks = self.tasks if self.is_over else self.find_tasks("running")
        attempts: dict[str, list[AttemptRecord]] = {}
        for task in tasks:
            if task.attempt is not None:
                attempts.setdefault(task.attempt.node, []).append(task.attempt)
        return [_measure_node(node, each, self.is_over) for node, each in sorted(attempts.items())]


def _get_rate(attempt: AttemptRecord | None) -> float:
    return 0.0 if attempt is None else attempt.clips_per_s or 0.0


def _measure_node(node: str, attempts: Sequence[AttemptRecord], is_over: bool) -> NodeUse:
    # Tasks that share a GPU all report the use of the same one.
    gpus = {attempt.gpu: attempt for attempt in attempts if attempt.gpu is not None}
    rates = [a.clips_per_s for a in attempts if a.clips_per_s is not None]
    percents = [a.gpu_percent for a in gpus.values() if a.gpu_percent is not None]
    return NodeUse(
        node=node,
        n_tasks=len(attempts),
        clips_per_s=sum(rates) / (max(1, len(rates)) if is_over else 1),
        n_gpus=len(gpus),
        gpu_percent=sum(percents) / len(percents) if percents else None,
        gpu_memory_bytes=sum(a.gpu_memory_bytes or 0 for a in gpus.values()),
        gpu_total_bytes=sum(a.gpu_total_bytes or 0 for a in gpus.values()),
    )
