"""Runs many tasks on workers: a bounded number at once, with retries when a worker is lost."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, assert_never

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

AnyW = TypeVar("AnyW", bound=AnyWork)

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

    def may_retry(self, error: LostWorker | LostNode | FailedScheduling) -> bool:
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
    ) -> None:
        self._workers, self._needs, self._in_flight = workers, needs, in_flight
        self._spending, self._log = spending, log
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
            self._running[self._workers.submit(self._make_attempt(tried.task))] = tried
        return bool(self._running)

    def _make_attempt(self, task: Task[AnyW]) -> Attempt:
        log = self._log.find_task_log(task) if self._log is not None else None
        return Attempt(task.name, task.work, task.needs or self._needs, log)

    def _fetch_outcome(self, handle: Any) -> Outcome[AnyW] | None:
        """Return how a task ended; None if it was lost and waits for its next attempt."""
        tried = self._running.pop(handle)
        task = tried.task
        try:
            result, took_s = self._workers.fetch(handle)
        except TaskError as error:
            self._log_end(task, error.kind)
            return Outcome(task, error=f"{error.kind}: {error}")
        except (LostWorker, LostNode, FailedScheduling) as error:
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
