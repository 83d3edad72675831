"""The workers that run attempts at tasks: their interface, and workers within this process."""

import contextlib
import ctypes
import os
import shlex
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from disk import PortableError
from jobs.log.task_log import TaskLog, keep_log
from jobs.schedule.task import AnyWork, Needs, Work, WorkOnInput
from terminal.console import UserError, repeat_command

IN_PROCESS = "TUTTI_IN_PROCESS"
"""Environment variable: if it is 1, a command runs its tasks itself, one after the other, without Ray,
as debuggers and tests need it."""
PRETENDED_GPUS = "TUTTI_PRETENDED_GPUS"
"""Environment variable that is set on nodes without the GPUs that they offer, as in
cluster/simulated.py."""

Handle = TypeVar("Handle", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a task, as a worker gets it."""

    name: str
    work: AnyWork
    needs: Needs
    log: TaskLog | None


class TaskError(PortableError):
    """The work itself raised an error, and would raise it again."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        """Name of the error's class."""


class LostWorker(Exception):
    """The worker died by a signal or for lack of memory, which the task may have caused."""


class LostNode(Exception):
    """The node was lost with the worker on it, which the task did not cause."""


class FailedScheduling(Exception):
    """The scheduler gave up the attempt for another reason."""


class LostCluster(UserError):
    """Ray itself has ended on this machine, so no attempt can run any more."""

    @classmethod
    def of_this_command(cls) -> "LostCluster":
        """Say which command continues."""
        return cls(
            "Ray on this machine has ended (`ray stop`, or its processes were killed): the same command "
            f"continues where this one stopped: {shlex.join(repeat_command())}"
        )


class Workers(Protocol, Generic[Handle]):
    """The workers on which attempts run."""

    is_shared: bool
    """Whether they belong to a cluster that ran before the command."""

    def submit(self, attempt: Attempt) -> Handle:
        """Queue an attempt, and return a handle of it."""
        ...

    def wait(self, handles: Sequence[Handle], timeout_s: float) -> Sequence[Handle]:
        """Wait until one has ended or the time is over, and return those that have ended."""
        ...

    def fetch(self, handle: Handle) -> tuple[Any, float]:
        """Return the result of an attempt that has ended, and how long it took in seconds.

        Raises:
            TaskError, LostWorker, LostNode, FailedScheduling: it has no result.
            LostCluster: no attempt has one any more.
        """
        ...

    def stop(self, handle: Handle) -> None:
        """End an attempt, whatever it does; fetching its result then says that its worker was lost."""
        ...

    def count_cpus(self) -> float:
        """Return the number of cores of all present nodes."""
        ...

    def count_gpus(self) -> float:
        """Return the number of GPUs of all present nodes."""
        ...

    def find_largest_memory_bytes(self) -> int:
        """Return the most memory that one task can reserve; 0 if it is not known."""
        ...


class InProcess:
    """Runs each attempt in this process, when its result is fetched (see `Workers`)."""

    is_shared = False

    def __init__(self) -> None:
        self._attempts: list[Attempt] = []
        self._inputs: dict[Work, Any] = {}

    def submit(self, attempt: Attempt) -> int:
        """Queue an attempt; the handle is its number."""
        self._attempts.append(attempt)
        return len(self._attempts) - 1

    def wait(self, handles: Sequence[int], timeout_s: float) -> Sequence[int]:
        """Return the attempt that was submitted first: fetching its result runs it."""
        return [min(handles)]

    def fetch(self, handle: int) -> tuple[Any, float]:
        """Run the attempt, and return its result and how long it took in seconds.

        Raises:
            TaskError: the work raised an error.
        """
        attempt = self._attempts[handle]
        try:
            if not isinstance(attempt.work, WorkOnInput):
                return run_attempt(attempt)
            if attempt.work.input not in self._inputs:
                self._inputs[attempt.work.input] = attempt.work.input.run()
            return run_attempt(attempt, self._inputs[attempt.work.input])
        except Exception as error:
            raise TaskError(type(error).__name__, str(error)) from error

    def stop(self, handle: int) -> None:
        """Do nothing: no attempt runs when somebody else does, and the option for it is refused."""

    def count_cpus(self) -> float:
        """Return the number of cores of this machine."""
        return os.cpu_count() or 1

    def count_gpus(self) -> float:
        """Return the number of GPUs of this machine."""
        import torch

        return torch.cuda.device_count()

    def find_largest_memory_bytes(self) -> int:
        """Return the memory of this machine."""
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def run_attempt(attempt: Attempt, *value: Any) -> tuple[Any, float]:
    """Do the work of an attempt in this process.

    Args:
        attempt: the work, with its log and its number of cores.
        value: the result of the input, if the work is `WorkOnInput`.

    Returns:
        The work's result, and how long it took in seconds.
    """
    import torch

    # More threads than reserved cores make both of two tasks slower than one after the other.
    torch.set_num_threads(max(1, int(attempt.needs.cpus)))
    started = time.monotonic()
    work = attempt.work
    try:
        with keep_log(attempt.log):
            result = work.run_on(*value) if isinstance(work, WorkOnInput) else work.run()
            return result, time.monotonic() - started
    finally:
        give_memory_back()


def give_memory_back() -> None:
    """Return freed memory to the system: this process may wait long before it needs it again."""
    with contextlib.suppress(AttributeError):  # a C library without this call
        ctypes.CDLL(None).malloc_trim(0)
