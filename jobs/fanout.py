"""Many independent tasks on Ray: bounded, retried on lost workers, shown, and one failing alone."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError

IN_FLIGHT = 64
"""Submitted at once: keeps a hundred GPUs fed, and the scheduler's tables small."""
RETRIES = 3
"""Of a task whose worker or node is lost; an error of its own is not retried."""


@dataclass(frozen=True, slots=True)
class Task:
    """A plain function and what it is called with; `name` is what people see."""

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a task asks of a machine."""

    cpus: float = 1
    gpus: float = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: with a result, or with the text of its error."""

    task: Task
    result: Any = None
    error: str | None = None
    took_s: float = 0.0


@dataclass(slots=True)
class FanOut:
    """Tasks on their way; iterate to get the outcomes in the order in which they end."""

    tasks: Sequence[Task]
    needs: Needs
    _running: dict[ray.ObjectRef, tuple[Task, float]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Outcome]:
        waiting = list(reversed(self.tasks))
        while waiting or self._running:
            while waiting and len(self._running) < IN_FLIGHT:
                self._submit(waiting.pop())
            ready, _ = ray.wait(list(self._running), num_returns=1)
            for reference in ready:
                yield self._outcome(reference)

    def _submit(self, task: Task) -> None:
        remote = ray.remote(_run).options(
            name=task.name,
            num_cpus=self.needs.cpus,
            num_gpus=self.needs.gpus,
            max_retries=RETRIES,
        )
        reference = remote.remote(task.function, task.arguments, self.needs.cpus)
        self._running[reference] = task, time.monotonic()

    def _outcome(self, reference: ray.ObjectRef) -> Outcome:
        task, started = self._running.pop(reference)
        took_s = time.monotonic() - started
        try:
            return Outcome(task, ray.get(reference), None, took_s)
        except RayTaskError as error:
            return Outcome(task, None, f"{type(error.cause).__name__}: {error.cause}", took_s)
        except RayError as error:
            return Outcome(task, None, f"{type(error).__name__}: {error}", took_s)


def fan_out(tasks: Iterable[Task], needs: Needs) -> FanOut:
    """Start tasks on the connected cluster."""
    return FanOut(list(tasks), needs)


def _run(function: Callable[..., Any], arguments: dict[str, Any], cpus: float) -> Any:
    # More threads than reserved cores make both of two tasks slower than one after the other.
    torch.set_num_threads(max(1, int(cpus)))
    return function(**arguments)
