"""A task: work that one worker of the cluster does, and what it needs of a machine."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from logit_store import LogitKey, LogitStore

GIB = 1024**3
"""Bytes of a GiB."""


class Work(Protocol):
    """What to do and how: a frozen dataclass, so that it can be sent to any node.

    Doing it twice is harmless: its result goes to the store, under a name that depends on its
    fields only.
    """

    def run(self) -> Any:
        """Do it in this process and return a small result, such as the key of what was stored."""
        ...


@runtime_checkable
class FindsResult(Protocol):
    """Work that makes no logits, and knows whether its result is in the store."""

    def find_result(self, store: LogitStore) -> Any | None:
        """Return the result if the store has it already; None if the work is still to be done."""
        ...


@runtime_checkable
class WorkOnInput(Protocol):
    """Work that starts from a large result, which several tasks share."""

    @property
    def input(self) -> Work:
        """The work that makes that result; it is done once for all tasks with an equal input."""
        ...

    def find_result(self, store: LogitStore) -> Any | None:
        """Return the result if the store has it already; None if the work is still to be done."""
        ...

    def run_on(self, value: Any) -> Any:
        """Do the work on the input's result, and return a small result as `Work.run` does."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What a task asks of a machine."""

    cpus: float = 1
    gpus: float = 0
    memory_bytes: int = 0
    """Memory of the host; with 0 none is reserved."""


AnyWork = Work | WorkOnInput
W_co = TypeVar("W_co", bound=AnyWork, covariant=True)


@dataclass(frozen=True, slots=True)
class Task(Generic[W_co]):
    """Work with a name that people see."""

    name: str
    work: W_co
    keys: tuple[LogitKey, ...] = ()
    """Keys of its logits, if it makes logits: a task whose logits are stored is not run."""
    needs: Needs | None = None
    """None is what tasks of the fan-out need in general."""
    occupies: Needs | None = None
    """Its needs with those of the workers that it starts itself, for its cost; None is its needs."""

    def find_cost_needs(self, general: Needs) -> Needs:
        """Return what the task takes of machines; `general` applies to tasks without needs."""
        return self.occupies or self.needs or general


@dataclass(frozen=True, slots=True)
class Outcome(Generic[W_co]):
    """How a task ended: with a result, or with the text of its error."""

    task: Task[W_co]
    result: Any = None
    error: str | None = None
    took_s: float = 0.0
    """Duration of the last attempt."""


def make_names_unique(tasks: Iterable[Task[W_co]]) -> list[Task[W_co]]:
    """Return the tasks without repetitions; where several have one name, with their fingerprints."""
    distinct = list({(task.name, task.keys): task for task in tasks}.values())
    counts = Counter(task.name for task in distinct)
    return [
        replace(task, name=f"{task.name} ({task.keys[0].member.rpartition('-')[2]})")
        if counts[task.name] > 1 and task.keys
        else task
        for task in distinct
    ]
