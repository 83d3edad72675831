"""Many tasks on Ray: bounded, retried on lost workers, and one failing alone."""

import contextlib
import ctypes
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

import ray
import torch
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from jobs.command import errors
from jobs.unit_log import Unit, logged
from logit_store import LogitKey

if TYPE_CHECKING:
    from jobs.costs import Spending
    from jobs.job_log import JobLog

IN_FLIGHT = 64
"""Submitted at once: keeps a hundred GPUs fed, and the scheduler's tables small."""
RETRIES = 3
"""Of a task whose worker died, by a signal or for want of memory, which may be the task's own doing;
an error that it raises is not retried at all."""
LOST_NODES = 100
"""So many may vanish under one task: that is not its doing, and it goes on from its checkpoint."""

LISTEN_EVERY_S = 1.0
"""How long a lost Ctrl-C stays unheard at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a task asks of a machine."""

    cpus: float = 1
    gpus: float = 0
    memory_bytes: int = 0
    """Of the host; 0 leaves it to chance."""


@dataclass(frozen=True, slots=True)
class Task:
    """A plain function and what it is called with; `name` is what people see."""

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    keys: tuple[LogitKey, ...] = ()
    """Where its logits will lie, if it makes logits: what is in the store is not done again."""
    needs: Needs | None = None
    """None is what the fan-out's tasks need in general."""
    shared: dict[str, ray.ObjectRef] = field(default_factory=dict)
    """More arguments: results of other remote calls, which Ray passes without a copy on a node."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: with a result, or with the text of its error."""

    task: Task
    result: Any = None
    error: str | None = None
    took_s: float = 0.0


@dataclass(slots=True)
class _Try:
    """A task, and what it has lost so far."""

    task: Task
    workers: int = 0
    nodes: int = 0

    def may_go_again(self, error: RayError) -> bool:
        """Whether a task that ended by this error of Ray's shall run once more."""
        match error:
            case NodeDiedError() | LocalRayletDiedError():
                self.nodes += 1
                return self.nodes <= LOST_NODES
            case WorkerCrashedError() | OutOfMemoryError():
                self.workers += 1
                return self.workers <= RETRIES
        return False


class FanOut:
    """Tasks on their way on the connected cluster, first come, first served.

    Iterate to get the outcomes in the order in which they end; `add` more at any time before. It
    ends when all have ended, or all that the budget lets start; the others are `left`. Where there
    is a log, tasks are in its plan before they are added.
    """

    def __init__(
        self,
        needs: Needs,
        in_flight: int = IN_FLIGHT,
        *,
        spending: "Spending | None" = None,
        log: "JobLog | None" = None,
    ) -> None:
        self._waiting: deque[_Try] = deque()
        self._running: dict[ray.ObjectRef, _Try] = {}
        # One remote function for all: Ray keeps the order only among calls of the same. Ray itself
        # would count a lost node as a fault of the task's, and retry it without end for memory.
        self._remote = ray.remote(max_retries=0)(_run)
        self._needs, self._in_flight, self._spending, self._log = needs, in_flight, spending, log

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue more tasks."""
        self._waiting.extend(_Try(task) for task in tasks)

    def __iter__(self) -> Iterator[Outcome]:
        with _interrupts() as seen:
            while self._submit_some():
                ready, _ = ray.wait(list(self._running), num_returns=1, timeout=LISTEN_EVERY_S)
                if seen:
                    raise KeyboardInterrupt
                for reference in ready:
                    outcome = self._outcome(reference)
                    if outcome is None:
                        continue
                    if self._spending is not None:
                        self._spending.end(outcome)
                    yield outcome

    @property
    def left(self) -> tuple[Task, ...]:
        """Tasks that were not started."""
        return tuple(each.task for each in self._waiting)

    def _submit_some(self) -> bool:
        """Submit as many as may run now; whether any runs."""
        while self._waiting and len(self._running) < self._in_flight:
            if self._spending is not None:
                if not self._spending.allows():
                    break
                self._spending.start(self._waiting[0].task)
            self._submit(self._waiting.popleft())
        return bool(self._running)

    def _submit(self, attempt: _Try) -> None:
        task = attempt.task
        needs = task.needs or self._needs
        remote = self._remote.options(
            name=task.name,
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            memory=needs.memory_bytes or None,
        )
        unit = self._log.unit(task) if self._log is not None else None
        reference = remote.remote(task.function, task.arguments, needs.cpus, unit, **task.shared)
        self._running[reference] = attempt

    def _outcome(self, reference: ray.ObjectRef) -> Outcome | None:
        """How a task ended; None if it was lost, and waits to run again."""
        attempt = self._running.pop(reference)
        task = attempt.task
        try:
            result, took_s = ray.get(reference)
        except RayTaskError as error:
            kind = type(error.cause).__name__
            self._note(task, kind)
            return Outcome(task, error=f"{kind}: {error.cause}")
        except RayError as error:
            text = f"{type(error).__name__}: {error}"
            if attempt.may_go_again(error):
                errors.print(f"{task.name} runs again: {type(error).__name__}", markup=False)
                self._waiting.appendleft(attempt)
                return None
            self._note(task, text)
            return Outcome(task, error=text)
        self._note(task, None)
        return Outcome(task, result, took_s=took_s)

    def _note(self, task: Task, error: str | None) -> None:
        if self._log is not None:
            self._log.ended(task, error)


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl-Cs of this time, also such as were lost in the middle of Ray's own code."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def _run(
    function: Callable[..., Any],
    arguments: dict[str, Any],
    cpus: float,
    unit: Unit | None,
    **shared: Any,
) -> Any:
    """The result, and how long the last attempt took, in seconds."""
    # More threads than reserved cores make both of two tasks slower than one after the other.
    torch.set_num_threads(max(1, int(cpus)))
    started = time.monotonic()
    try:
        with logged(unit):
            return function(**arguments, **shared), time.monotonic() - started
    finally:
        give_memory_back()


def give_memory_back() -> None:
    """Let the system have what was freed: this process may wait long before it needs it again."""
    with contextlib.suppress(AttributeError):  # a C library that has no such call
        ctypes.CDLL(None).malloc_trim(0)
