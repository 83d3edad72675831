"""What all workers do: one suite of tests, run in this process and on Ray."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from jobs.schedule.fanout import FanOut
from jobs.schedule.task import Needs, Task


@dataclass(frozen=True)
class Double:
    """Work that fails for numbers below 0."""

    number: int

    def run(self) -> int:
        """Return twice the number."""
        if self.number < 0:
            raise ValueError(f"number {self.number}, expected 0 or more")
        return 2 * self.number


@dataclass(frozen=True)
class CountThreads:
    """Work that reports how many threads torch uses."""

    def run(self) -> int:
        """Return the number of threads."""
        return torch.get_num_threads()


@dataclass(frozen=True)
class Read:
    """Work that notes in a file that it was done."""

    log: str

    def run(self) -> int:
        """Return a number."""
        with Path(self.log).open("a") as file:
            file.write("x")
        return 7


@dataclass(frozen=True)
class Add:
    """Work on a number that was read."""

    input: Read
    number: int

    def find_result(self, store):
        return None

    def run_on(self, value: int) -> int:
        """Return the sum."""
        return value + self.number


def fan_out(workers, tasks, needs=None, **options):
    """Make a fan-out with these tasks in it."""
    made = FanOut(workers, needs or Needs(), **options)
    made.add(tasks)
    return made


def results_of(work):
    """Return the results of a fan-out by the names of its tasks."""
    return {outcome.task.name: outcome.result for outcome in work}


class WorkersSuite:
    """Tests for the workers of the fixture `workers`."""

    def test_every_task_ends_with_its_result(self, workers):
        tasks = [Task(str(i), Double(i)) for i in range(40)]
        results = results_of(fan_out(workers, tasks))
        assert results == {str(i): 2 * i for i in range(40)}

    def test_a_task_that_fails_is_named_with_its_error_and_does_not_stop_the_others(self, workers):
        tasks = [Task(str(i), Double(i)) for i in (1, -1, 2)]
        outcomes = {outcome.task.name: outcome for outcome in fan_out(workers, tasks)}
        assert outcomes["-1"].error == "ValueError: number -1, expected 0 or more"
        assert (outcomes["1"].result, outcomes["2"].result) == (2, 4)

    def test_an_input_is_read_once_for_all_tasks_that_share_it(self, workers, tmp_path):
        logs = [tmp_path / "first", tmp_path / "second"]
        tasks = [Task(f"{log.name} {i}", Add(Read(str(log)), i)) for log in logs for i in range(3)]
        results = results_of(fan_out(workers, tasks))
        assert results == {task.name: 7 + task.work.number for task in tasks}
        assert [log.read_text() for log in logs] == ["x", "x"]

    def test_torch_uses_the_cores_that_the_task_reserved(self, workers):
        for cpus in range(1, min(2, os.cpu_count() or 1) + 1):
            (outcome,) = fan_out(workers, [Task("threads", CountThreads())], Needs(cpus=cpus))
            assert outcome.result == cpus
