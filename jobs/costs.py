"""What runs cost, at the prices of cluster/prices.toml, and the end of a budget."""

import datetime
import shlex
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from jobs.command import CorpusOptions, UserError, console, errors
from jobs.fanout import Needs, Outcome, Task

PRICES = Path(__file__).resolve().parent.parent / "cluster" / "prices.toml"
OWN = "laptop"
"""The entry for a machine that nobody sends a bill for."""
GIB = 1024**3
SHOWN = 20
"""Runs that are named when a budget ends."""


@dataclass(frozen=True, kw_only=True)
class CostOptions(CorpusOptions):
    """Options of jobs that say what they will cost."""

    machine: str | None = None
    """What the runs run on, for what they cost: a name in cluster/prices.toml; laptop, a machine of
    your own that costs nothing, if not given."""
    spot: bool = False
    """Count spot prices, not those on demand."""
    dry_run: bool = False
    """Print what would run, what it needs and what it costs, and run nothing."""

    def price(self) -> "Price":
        """Of the machine that was named.

        Raises:
            UserError: there is no such price, or prices.toml is malformed.
        """
        return find_price(self.machine or OWN)


@dataclass(frozen=True, kw_only=True)
class BudgetOptions(CostOptions):
    """Options of jobs that stop when enough is spent."""

    budget: float | None = None
    """Start no more runs when what has run and what runs has cost about so much, at the price of
    --machine; what runs is let finish. Of this command: the next one begins anew."""

    def checked_budget(self, *, on_cluster: bool) -> float | None:
        """The budget, if there is one.

        Args:
            on_cluster: whether runs go to a cluster that is there, of nobody knows which machines.

        Raises:
            UserError: the budget is not above 0, or nobody said what a cluster's machines cost.
        """
        if self.budget is None:
            return None
        if self.budget <= 0:
            raise UserError(f"--budget {self.budget:g}: expected an amount above 0")
        if self.machine is None and on_cluster:
            raise UserError(
                f"--budget {self.budget:g}: the runs go to a cluster; say what its machines are "
                "with --machine NAME, a name in cluster/prices.toml (laptop if they are your own)"
            )
        return self.budget


class Price(BaseModel):
    """A machine, and what an hour of it costs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    currency: str
    gpus: NonNegativeInt
    cpus: PositiveInt
    memory_gib: PositiveInt
    accelerator: str
    """Its GPU as CUDA calls it; empty if it has none, or any."""
    on_demand: NonNegativeFloat
    """An hour."""
    spot: NonNegativeFloat | None = None
    """An hour, if somebody has looked it up: it moves from day to day."""
    read: datetime.date | None = None
    """When these were the prices of the source, if somebody has looked."""
    source: str
    """Where to look."""

    def share(self, needs: Needs) -> float:
        """How much of the machine a run takes: of what it takes most of; above 1 for several.

        Raises:
            UserError: it needs a GPU, and the machine has none.
        """
        if needs.gpus and not self.gpus:
            raise UserError(
                f"--machine {self.name} has no GPU ({PRICES}), and a run takes {needs.gpus:g}: name "
                "another, or give --gpus-per-run 0"
            )
        shares = [
            needs.cpus / self.cpus,
            needs.gpus / max(1, self.gpus),
            needs.memory_bytes / (self.memory_gib * GIB),
        ]
        return max(shares)

    def cost(self, needs: Needs, seconds: float, *, spot: bool) -> float:
        """Of a run that takes so long; see `hourly`."""
        return self.share(needs) * self.hourly(spot=spot) * seconds / 3600

    def hourly(self, *, spot: bool) -> float:
        """What an hour of the whole machine costs.

        Raises:
            UserError: nobody has written down what it costs as spot.
        """
        if not spot:
            return self.on_demand
        if self.spot is None:
            raise UserError(
                f"--spot: {PRICES} has no spot price of {self.name}; look at {self.source} and add "
                "it there as spot = PRICE"
            )
        return self.spot

    def said(self, money: float) -> str:
        """An amount for people."""
        return f"{money:,.2f} {self.currency}"


def find_price(name: str, file: Path = PRICES) -> Price:
    """The price of a machine.

    Raises:
        UserError: there is none of that name, or the file is malformed; says where.
    """
    try:
        document = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}") from error
    machines = {key: entry for key, entry in document.items() if isinstance(entry, dict)}
    if name not in machines:
        raise UserError(f"--machine {name}: {file} has no such entry; it has {', '.join(machines)}")
    try:
        currency = document.get("currency")
        return Price.model_validate({"name": name, "currency": currency, **machines[name]})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        found = "" if first["type"] == "missing" else f" is {first['input']!r}"
        raise UserError(f"{file}, [{name}]: {field}{found}: {first['msg']}") from error


class Spending:
    """A budget, what of it is spent, and what those that run will still take.

    A run counts with what it is expected to take until it has ended, and then with what it took.
    Those that have ended correct what is expected of the others.

    Args:
        budget: in the price's currency.
        price: of the machine that the runs share.
        spot: whether the machines are spot.
        needs: of a task that does not say its own.
        expected_s: how long each task takes, by its name. Any other counts as long as those that
            have ended took on the average.
        usual_s: how long any other takes until one has ended.
    """

    def __init__(
        self,
        budget: float,
        price: Price,
        needs: Needs,
        expected_s: Mapping[str, float],
        *,
        usual_s: float = 0.0,
        spot: bool = False,
    ) -> None:
        self.budget, self.price, self.spot = budget, price, spot
        self._needs, self._expected_s, self._usual_s = needs, dict(expected_s), usual_s
        self._running: dict[str, Task] = {}
        self._took_s: list[float] = []
        self._foreseen_s = self._of_foreseen_s = 0.0
        self.spent = 0.0

    def allows(self) -> bool:
        """Whether one more may start."""
        return self.committed < self.budget

    @property
    def committed(self) -> float:
        """What has run and what runs."""
        running = sum(self._cost(task, self._likely_s(task)) for task in self._running.values())
        return self.spent + running

    def start(self, task: Task) -> None:
        """Take down that a task was started."""
        self._running[task.name] = task

    def end(self, outcome: Outcome) -> None:
        """Take down what a task took; one that failed counts as it was expected."""
        task = self._running.pop(outcome.task.name)
        seconds = outcome.took_s
        if outcome.error is not None:
            seconds = self._likely_s(task)
        else:
            self._took_s.append(seconds)
            if task.name in self._expected_s:
                self._foreseen_s += self._expected_s[task.name]
                self._of_foreseen_s += seconds
        self.spent += self._cost(task, seconds)

    def _likely_s(self, task: Task) -> float:
        if task.name in self._expected_s:
            ratio = self._of_foreseen_s / self._foreseen_s if self._foreseen_s else 1.0
            return ratio * self._expected_s[task.name]
        return sum(self._took_s) / len(self._took_s) if self._took_s else self._usual_s

    def _cost(self, task: Task, seconds: float) -> float:
        return self.price.cost(needs_of(task, self._needs), seconds, spot=self.spot)

    def say_plan(self, tasks: Iterable[Task]) -> None:
        """What of the budget tasks are expected to take."""
        expected = sum(self._cost(task, self._likely_s(task)) for task in tasks)
        free = self.price.hourly(spot=self.spot) == 0
        console.print(
            f"budget: {self.price.said(self.budget)}; expected for all runs: "
            f"{self.price.said(expected)} on {self.price.name}"
            + (" (the price is 0: no budget will end it)" if free else "")
        )

    def say_end(self, left: Sequence[str]) -> None:
        """What was spent; the runs that are left, and the command that goes on, if any are."""
        console.print(
            f"spent about {self.price.said(self.spent)} of {self.price.said(self.budget)}"
        )
        if not left:
            return
        names = ", ".join(left[:SHOWN])
        more = f" and {len(left) - SHOWN:,} more" if len(left) > SHOWN else ""
        errors.print(
            f"budget of {self.price.said(self.budget)} reached; not started: {names}{more}\nWhat is "
            f"done is kept. To go on with as much again: {shlex.join(['python', *sys.argv])}",
            markup=False,
        )


def needs_of(task: Task, needs: Needs) -> Needs:
    """What a task reserves, with the GPUs that a trainer of its own reserves for it."""
    n_gpus = task.arguments.get("n_gpus", 1)
    if n_gpus > 1:
        return Needs(cpus=n_gpus, gpus=n_gpus)
    return task.needs or needs
