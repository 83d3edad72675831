"""Workers in this process that behave as those of a cluster may."""

from collections.abc import Iterable
from typing import Any

from jobs.schedule.workers import FailedScheduling, InProcess, LostNode, LostWorker


class FakeWorkers(InProcess):
    """Workers of a machine with these GPUs and this memory; the first attempts are lost.

    Args:
        losses: errors by which the first attempts end.
        n_gpus: number of GPUs.
        n_cpus: number of cores.
        memory_bytes: of the largest node; 0 if all nodes are still to come.
        is_shared: whether they belong to a cluster that was there before.
    """

    def __init__(
        self,
        losses: Iterable[LostWorker | LostNode | FailedScheduling] = (),
        *,
        n_gpus: float = 0,
        n_cpus: float = 4,
        memory_bytes: int = 2**34,
        is_shared: bool = False,
    ) -> None:
        super().__init__()
        self.is_shared = is_shared
        self._losses, self._n_gpus, self._memory_bytes = iter(losses), n_gpus, memory_bytes
        self._n_cpus = n_cpus

    def fetch(self, handle: int) -> tuple[Any, float]:
        """Run the attempt, unless it is to be lost."""
        if (loss := next(self._losses, None)) is not None:
            raise loss
        return super().fetch(handle)

    def count_cpus(self) -> float:
        """Return the number of cores."""
        return self._n_cpus

    def count_gpus(self) -> float:
        """Return the number of GPUs."""
        return self._n_gpus

    def find_largest_memory_bytes(self) -> int:
        """Return the memory of the largest node."""
        return self._memory_bytes
