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
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from logit_store import LogitKey

IN_FLIGHT = 64
"""Submitted at once: keeps a hundred GPUs fed, and the scheduler's tables small."""
RETRIES = 3
"""Of a task whose worker or node is lost; an error of its own is not retried."""


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


class FanOut:
    """Tasks on their way on the connected cluster, first come, first served.

    Iterate to get the outcomes in the order in which they end; `add` more at any time before.
    """

    def __init__(self, needs: Needs, in_flight: int = IN_FLIGHT) -> None:
        self._waiting: deque[Task] = deque()
        self._running: dict[ray.ObjectRef, Task] = {}
        # One remote function for all: Ray keeps the order only among calls of the same.
        self._remote = ray.remote(max_retries=RETRIES)(_run)
        self._needs, self._in_flight = needs, in_flight

    def add(self, tasks: Iterable[Task]) -> None:
        """Queue more tasks."""
        self._waiting.extend(tasks)

    def __iter__(self) -> Iterator[Outcome]:
        with _interrupts() as seen:
            while self._waiting or self._running:
                while self._waiting and len(self._running) < self._in_flight:
                    self._submit(self._waiting.popleft())
                ready, _ = ray.wait(list(self._running), num_returns=1, timeout=LISTEN_EVERY_S)
                if seen:
                    raise KeyboardInterrupt
                for reference in ready:
                    yield self._outcome(reference)

    def _submit(self, task: Task) -> None:
        needs = task.needs or self._needs
        remote = self._remote.options(
            name=task.name,
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            memory=needs.memory_bytes or None,
        )
        reference = remote.remote(task.function, task.arguments, needs.cpus, **task.shared)
        self._running[reference] = task

    def _outcome(self, reference: ray.ObjectRef) -> Outcome:
        task = self._running.pop(reference)
        try:
            result, took_s = ray.get(reference)
        except RayTaskError as error:
            return Outcome(task, error=f"{type(error.cause).__name__}: {error.cause}")
        except RayError as error:
            return Outcome(task, error=f"{type(error).__name__}: {error}")
        return Outcome(task, result, took_s=took_s)


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
    function: Callable[..., Any], arguments: dict[str, Any], cpus: float, **shared: Any
) -> Any:
    """The result, and how long the last attempt took, in seconds."""
    # More threads than reserved cores make both of two tasks slower than one after the other.
    torch.set_num_threads(max(1, int(cpus)))
    started = time.monotonic()
    try:
        return function(**arguments, **shared), time.monotonic() - started
    finally:
        give_memory_back()


def give_memory_back() -> None:
    """Let the system have what was freed: this process may wait long before it needs it again."""
    with contextlib.suppress(AttributeError):  # a C library that has no such call
        ctypes.CDLL(None).malloc_trim(0)
