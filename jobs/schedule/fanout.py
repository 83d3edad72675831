"""Runs many tasks on workers: a bounded number at once, with retries when a worker is lost."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, assert_never

from jobs.log.task_log import TaskLog
from jobs.schedule.job_log import JobLog
from jobs.schedule.spending import Spending
from jobs.schedule.task import AnyWork, Needs, Outcome, Task
from jobs.schedule.workers import (
    Attempt,
    FailedScheduling,
    LostNode,
    LostWorker,
    TaskError,
    Workers,
)
from terminal.console import error_console
from terminal.stopping import raise_if_stopped, stop_on_signals
from terminal.tables import format_duration

AnyW = TypeVar("AnyW", bound=AnyWork)
Loss = LostWorker | LostNode | FailedScheduling

IN_FLIGHT = 64
"""Tasks submitted at once: this keeps a hundred GPUs fed, and the scheduler's tables small."""
RETRIES = 3
"""Further attempts at a task whose worker died by a signal or for lack of memory, which the task may
have caused. A task that raises an error is not retried at all."""
LOST_NODES = 100
"""Number of nodes that one task may lose: it did not cause that, and resumes from its checkpoint."""

WAIT_S = 1.0
"""Ray may swallow a Ctrl-C; it is noticed after this time at the latest."""


@dataclass(slots=True)
class _Tried(Generic[AnyW]):
    """A task, with the number of workers and nodes that it lost."""

    task: Task[AnyW]
    lost_workers: int = 0
    lost_nodes: int = 0
    silent_s: float | None = None
    """How long its attempt had been silent when it was stopped for that."""

    @property
    def attempt(self) -> int:
        """Which attempt at the task is the next, or runs."""
        return 1 + self.lost_workers + self.lost_nodes

    def explain(self, error: Loss) -> Loss:
        """Return why an attempt was lost, given the error by which it ended."""
        if self.silent_s is None:
            return error
        silent, self.silent_s = format_duration(self.silent_s), None
        return LostWorker(f"stopped after it had reported nothing for {silent} (--unit-timeout)")

    def may_retry(self, error: Loss) -> bool:
        """Count the loss, and return whether the task is tried once more."""
        match error:
            case LostNode():
                self.lost_nodes += 1
                return self.lost_nodes <= LOST_NODES
            case LostWorker():
                self.lost_workers += 1
                return self.lost_workers <= RETRIES
            case FailedScheduling():
                return False
            case _:
                assert_never(error)


class FanOut(Generic[AnyW]):
    """A queue of tasks for workers, first come, first served.

    Iterating returns the outcomes in the order in which tasks end; more tasks can be added
    meanwhile. The iteration ends when all tasks have ended, or all that the budget allows to start;
    the others are `left`. Tasks must be in the plan of the log, if there is one, before they are
    added.
    """

    def __init__(
        self,
        workers: Workers[Any],
        needs: Needs,
        in_flight: int = IN_FLIGHT,
        *,
        spending: Spending | None = None,
        log: JobLog | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Queue nothing yet.

        Args:
            workers: where tasks run.
            needs: needs of each task that does not name its own.
            in_flight: number of tasks submitted at once.
            spending: the budget, if there is one.
            log: the log of the job; without it nobody notices attempts that are silent.
            timeout_s: an attempt that has reported nothing for so long is stopped, and counts as lost.
        """
        self._workers, self._needs, self._in_flight = workers, needs, in_flight
        self._spending, self._log = spending, log
        self._silence = log.watch_silence(timeout_s) if log is not None else None
        self._waiting: deque[_Tried[AnyW]] = deque()
        self._running: dict[Any, _Tried[AnyW]] = {}

    def add(self, tasks: Iterable[Task[AnyW]]) -> None:
        """Queue more tasks."""
        self._waiting.extend(_Tried(task) for task in tasks)

    def __iter__(self) -> Iterator[Outcome[AnyW]]:
        with stop_on_signals():
            while self._submit_waiting():
                ended = self._workers.wait(list(self._running), WAIT_S)
                raise_if_stopped()
                for handle in ended:
                    outcome = self._fetch_outcome(handle)
                    if outcome is None:
                        continue
                    if self._spending is not None:
                        self._spending.end(outcome)
                    yield outcome
                self._stop_silent()

    @property
    def left(self) -> tuple[Task[AnyW], ...]:
        """The tasks that were not started."""
        return tuple(each.task for each in self._waiting)

    def _submit_waiting(self) -> bool:
        """Submit as many tasks as may run now; return whether any runs."""
        while self._waiting and len(self._running) < self._in_flight:
            if self._spending is not None:
                if not self._spending.may_start():
                    break
                self._spending.start(self._waiting[0].task)
            tried = self._waiting.popleft()
            self._running[self._workers.submit(self._make_attempt(tried))] = tried
        return bool(self._running)

    def _make_attempt(self, tried: _Tried[AnyW]) -> Attempt:
        task = tried.task
        return Attempt(task.name, task.work, task.needs or self._needs, self._find_log(tried))

    def _find_log(self, tried: _Tried[AnyW]) -> TaskLog | None:
        if self._log is None:
            return None
        return self._log.find_task_log(tried.task, tried.attempt)

    def _stop_silent(self) -> None:
        """Stop the attempts that have reported nothing for longer than the timeout."""
        if self._silence is None:
            return
        handles = {log: h for h, tried in self._running.items() if (log := self._find_log(tried))}
        for log, silent_s in self._silence.look(handles).items():
            self._running[handles[log]].silent_s = silent_s
            self._workers.stop(handles[log])

    def _fetch_outcome(self, handle: Any) -> Outcome[AnyW] | None:
        """Return how a task ended; None if it was lost and waits for its next attempt."""
        tried = self._running.pop(handle)
        task = tried.task
        try:
            result, took_s = self._workers.fetch(handle)
        except TaskError as error:
            self._log_end(task, error.kind)
            return Outcome(task, error=f"{error.kind}: {error}")
        except (LostWorker, LostNode, FailedScheduling) as lost:
            error = tried.explain(lost)
            if tried.may_retry(error):
                error_console.print(
                    f"{task.name} runs again: {str(error).partition(':')[0]}", markup=False
                )
                self._waiting.appendleft(tried)
                return None
            self._log_end(task, str(error))
            return Outcome(task, error=str(error))
        self._log_end(task, None)
        return Outcome(task, result, took_s=took_s)

    def _log_end(self, task: Task[AnyW], error: str | None) -> None:
        if self._log is not None:
            self._log.note_end(task, error)
