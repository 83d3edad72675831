"""The cost of runs at the prices of cluster/prices.toml, and the end of a budget."""

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.schedule.task import Needs, Outcome, Task
from logit_store import LogitKey
from terminal.console import console, error_console

if TYPE_CHECKING:
    from jobs.schedule.prices import Price

RUNS_NAMED = 20
"""Number of runs that are named when a budget ends."""


class Spending:
    """A budget, what is spent of it, and what the running tasks are expected to cost.

    A task counts with its expected duration until it has ended, and then with its real one. Tasks
    that have ended correct the expected durations of the others.

    Args:
        budget: in the price's currency.
        price: price of the machine that the runs share.
        spot: whether it is a spot machine.
        needs: needs of a task that does not name its own.
        expected_s: expected duration of each task, by its name. The others count with the mean
            duration of those that have ended.
        usual_s: duration that the others count with until one has ended.
    """

    def __init__(
        self,
        budget: float,
        price: "Price",
        needs: Needs,
        expected_s: Mapping[str, float],
        *,
        usual_s: float = 0.0,
        spot: bool = False,
    ) -> None:
        self.budget, self.price, self.spot = budget, price, spot
        self._needs, self._expected_s, self._usual_s = needs, dict(expected_s), usual_s
        self._running: dict[tuple[str, tuple[LogitKey, ...]], Task[Any]] = {}
        self._took_s: list[float] = []
        self._total_expected_s = self._took_of_expected_s = 0.0
        self.spent = 0.0

    def may_start(self) -> bool:
        """Return whether one more task may start."""
        return self.committed < self.budget

    @property
    def committed(self) -> float:
        """Cost of the tasks that have ended and of those that run."""
        running = sum(
            self._find_cost(task, self._estimate_s(task)) for task in self._running.values()
        )
        return self.spent + running

    def start(self, task: Task[Any]) -> None:
        """Note that a task was started."""
        self._running[task.name, task.keys] = task

    def end(self, outcome: Outcome[Any]) -> None:
        """Note how long a task took; one that failed counts with its expected duration."""
        task = self._running.pop((outcome.task.name, outcome.task.keys))
        seconds = outcome.took_s
        if outcome.error is not None:
            seconds = self._estimate_s(task)
        else:
            self._took_s.append(seconds)
            if task.name in self._expected_s:
                self._total_expected_s += self._expected_s[task.name]
                self._took_of_expected_s += seconds
        self.spent += self._find_cost(task, seconds)

    def _estimate_s(self, task: Task[Any]) -> float:
        if task.name in self._expected_s:
            ratio = (
                self._took_of_expected_s / self._total_expected_s if self._total_expected_s else 1.0
            )
            return ratio * self._expected_s[task.name]
        return sum(self._took_s) / len(self._took_s) if self._took_s else self._usual_s

    def _find_cost(self, task: Task[Any], seconds: float) -> float:
        return self.price.find_cost(task.find_cost_needs(self._needs), seconds, spot=self.spot)

    def say_plan(self, tasks: Iterable[Task[Any]]) -> None:
        """Print what the tasks are expected to cost."""
        expected = sum(self._find_cost(task, self._estimate_s(task)) for task in tasks)
        free = self.price.find_hourly_price(spot=self.spot) == 0
        console.print(
            f"budget: {self.price.format_amount(self.budget)}; expected for all runs: "
            f"{self.price.format_amount(expected)} on {self.price.name}"
            + (" (the price is 0: no budget will end it)" if free else "")
        )

    def say_end(self, left: Sequence[str]) -> None:
        """Print what was spent, and if runs are left, their names and the command that continues."""
        console.print(
            f"spent about {self.price.format_amount(self.spent)} of {self.price.format_amount(self.budget)}"
        )
        if not left:
            return
        names = ", ".join(left[:RUNS_NAMED])
        more = f" and {len(left) - RUNS_NAMED:,} more" if len(left) > RUNS_NAMED else ""
        error_console.print(
            f"budget of {self.price.format_amount(self.budget)} reached; not started: {names}{more}\nWhat is "
            f"done is kept. To continue with the same amount again: {shlex.join(['python', *sys.argv])}",
            markup=False,
        )
