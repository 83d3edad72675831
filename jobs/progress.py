"""How jobs stand, live or afterwards, from what lies in their store alone."""

import os
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Literal

from jobs.bulletin import LOST_AFTER_S
from jobs.command import UserError
from jobs.job_files import (
    DRIVERS,
    Attempt,
    Document,
    Driver,
    PlannedUnit,
    PlanPart,
    attempt_object,
    attempts_pattern,
    decoded,
    driver_object,
    job_of,
    plan_object,
    unit_of,
)
from logit_store import LogitStore
from logit_store.files import Entry

State = Literal["done", "running", "lost?", "failed", "waiting"]
STATES: tuple[State, ...] = ("done", "running", "lost?", "failed", "waiting")
READ_AT_ONCE = 16
"""Requests of small objects in flight."""


@dataclass(frozen=True, slots=True)
class UnitProgress:
    """How a unit stands."""

    planned: PlannedUnit
    state: State
    attempt: Attempt | None = None
    """The last one, where it was read."""
    silent_s: float = 0.0
    """Since the attempt's last sign of life."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class NodeUse:
    """What a node does, or did."""

    node: str
    n_units: int
    clips_per_s: float
    """Of its units together; of a job that is over, the mean over those that told it."""
    n_gpus: int
    gpu_percent: float | None
    """Mean over the GPUs that tell."""
    gpu_memory_bytes: int
    """In use on the GPUs."""
    gpu_total_bytes: int


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How a job stands."""

    job: str
    driver: Driver
    silent_s: float
    """Since the driver's last sign of life."""
    units: list[UnitProgress]

    @property
    def is_lost(self) -> bool:
        """Whether its driver stopped without a word."""
        return self.driver.state == "running" and self.silent_s > LOST_AFTER_S

    @property
    def is_over(self) -> bool:
        """Whether nobody works on it any more."""
        return self.driver.state != "running" or self.is_lost

    def counts(self) -> Counter[State]:
        """How many units are in which state."""
        return Counter(unit.state for unit in self.units)

    def in_state(self, *states: State) -> list[UnitProgress]:
        """The units in these states, in the order of the plan."""
        return [unit for unit in self.units if unit.state in states]

    @property
    def took_s(self) -> float:
        """From the job's beginning to its driver's last word."""
        return self.driver.told - self.driver.since

    @property
    def clips_per_s(self) -> float:
        """Learnt from by all units that run."""
        return sum(_rate(unit.attempt) for unit in self.in_state("running"))

    def time_left_s(self) -> float | None:
        """How long the job will go on, as far as can be told; None before anything can be.

        What runs goes on for as long as its slowest unit says. What waits is done as fast as units
        were done so far, or where none was, as fast as those that run will be.
        """
        running, waiting = self.in_state("running"), self.in_state("waiting")
        left_s = [_left_s(unit) for unit in running]
        known_s = [each for each in left_s if each is not None]
        n_done = sum(unit.state == "done" and not unit.planned.stored for unit in self.units)
        slowest_s = max(known_s, default=None)
        if n_done:
            by_rate_s = (len(running) + len(waiting)) * self.took_s / n_done
            return max(by_rate_s, slowest_s or 0.0) if waiting else slowest_s
        if slowest_s is None or not waiting:
            return slowest_s
        whole_s = [_age_s(unit) + left for unit, left in zip(running, left_s, strict=True) if left]
        mean_s = sum(whole_s) / len(whole_s) if whole_s else slowest_s
        return slowest_s + mean_s * len(waiting) / len(running)

    def nodes(self) -> list[NodeUse]:
        """What each node does now; of a job that is over, what each did."""
        units = self.units if self.is_over else self.in_state("running")
        at: dict[str, list[Attempt]] = {}
        for unit in units:
            if unit.attempt is not None:
                at.setdefault(unit.attempt.node, []).append(unit.attempt)
        return [_node_use(node, tried, self.is_over) for node, tried in sorted(at.items())]


class Watcher:
    """Reads how jobs stand; of what it has read before, only what has changed."""

    def __init__(self, store: LogitStore) -> None:
        """Touches nothing."""
        self._store = store
        self._read: dict[str, tuple[str, PlanPart | Driver | Attempt]] = {}

    def jobs(self) -> list[str]:
        """All jobs of which there is a log, the newest last.

        Raises:
            UserError: there is none.
        """
        return [job_of(entry.name) for entry in self._drivers()]

    def current(self) -> list[str]:
        """The jobs that run, and the newest of all.

        Raises:
            UserError: there is none.
        """
        entries = self._drivers()
        return sorted({*self._at_work(entries), job_of(entries[-1].name)})

    def refuse_second(self, search: str) -> None:
        """Make sure that no other driver carries out a search.

        Raises:
            UserError: one does; says which.
        """
        for driver in self._at_work(self._store.files.entries(DRIVERS)).values():
            if driver.search == search and _may_live(driver):
                raise UserError(
                    f"search {search} is being carried out by process {driver.pid} on "
                    f"{driver.host}: see python jobs/status.py, or give this one another --name "
                    f"(a driver that is lost is known to be so after {LOST_AFTER_S:.0f} s)"
                )

    def look(self, job: str) -> JobProgress:
        """How a job stands now.

        Raises:
            UserError: no job has that name.
        """
        entries = self._store.files.entries(driver_object(job))
        if not entries:
            raise UserError(f"--job {job}: no such job; there are: {', '.join(self.jobs())}")
        (driver,) = self._documents(Driver, entries)
        units = self._plan(job)
        # Together with their plan: what a listing shows later is not older than the plan.
        there = {str(key) for key in self._store.keys(view=None)}
        ended_well = set(driver.ended_well)
        is_done = {unit.number: _is_done(unit, there, ended_well) for unit in units}
        found = JobProgress(job, driver, _age(entries[0]), [])
        entry_of = {unit_of(entry.name): entry for entry in self._attempts(job)}
        # While it runs, thousands of units that are done are nobody's question.
        wanted = [n for n in entry_of if found.is_over or not is_done[n]]
        attempts = self._documents(Attempt, [entry_of[number] for number in wanted])
        attempt_of = dict(zip(wanted, attempts, strict=True))
        for unit in units:
            attempt, entry = attempt_of.get(unit.number), entry_of.get(unit.number)
            silent_s = _age(entry) if entry else 0.0
            error = driver.ended_badly.get(str(unit.number))
            state = _state(is_done[unit.number], error, attempt, silent_s, found.is_over)
            if attempt is not None and attempt.error is not None:
                error = attempt.error
            found.units.append(
                UnitProgress(unit, state, attempt, silent_s, error if state == "failed" else None)
            )
        return found

    def attempts(self, job: str, name: str) -> list[Attempt]:
        """All attempts of a job at the units of a name or glob pattern, the oldest first."""
        numbers = {unit.number for unit in self._plan(job) if fnmatchcase(unit.name, name)}
        entries = [
            entry
            for number in sorted(numbers)
            for entry in self._store.files.entries(attempt_object(job, number, "*"))
        ]
        return self._documents(Attempt, entries)

    def _drivers(self) -> list[Entry]:
        entries = self._store.files.entries(DRIVERS)
        if not entries:
            raise UserError(
                f"{self._store.address} has no log of a job: jobs that teach or select leave one "
                "while they work (check --store)"
            )
        return entries

    def _at_work(self, entries: Sequence[Entry]) -> dict[str, Driver]:
        """The drivers of these that gave a sign of life lately, by their jobs."""
        recent = [entry for entry in entries if _age(entry) <= LOST_AFTER_S]
        drivers = zip(recent, self._documents(Driver, recent), strict=True)
        return {job_of(entry.name): each for entry, each in drivers if each.state == "running"}

    def _plan(self, job: str) -> list[PlannedUnit]:
        parts = self._documents(PlanPart, self._store.files.entries(plan_object(job, "*")))
        # One that came up twice is what it was at last.
        units = {unit.number: unit for part in parts for unit in part.units}
        return list(units.values())

    def _attempts(self, job: str) -> Iterable[Entry]:
        """Sorted: of several at a unit, the last comes last."""
        return self._store.files.entries(attempts_pattern(job))

    def _documents(self, kind: type[Document], entries: Sequence[Entry]) -> list[Document]:
        def read(entry: Entry) -> Document:
            version, document = self._read.get(entry.name, ("", None))
            if version != entry.version or not isinstance(document, kind):
                data = self._store.files.get(entry.name)
                document = decoded(kind, data, self._store.files.where(entry.name))
                self._read[entry.name] = (entry.version, document)
            return document

        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            return list(pool.map(read, entries))


def _is_done(unit: PlannedUnit, there: set[str], ended_well: set[int]) -> bool:
    return there.issuperset(unit.keys) if unit.keys else unit.number in ended_well


def _may_live(driver: Driver) -> bool:
    """Whether its process may be there still, as far as can be seen from here."""
    if driver.host != socket.gethostname():
        return True
    try:
        os.kill(driver.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return driver.pid != os.getpid()


def _state(
    is_done: bool, error: str | None, attempt: Attempt | None, silent_s: float, is_over: bool
) -> State:
    if is_done:
        return "done"
    if error is not None:
        return "failed"
    if attempt is None:
        return "waiting"
    if attempt.state == "running":
        return "lost?" if is_over or silent_s > LOST_AFTER_S else "running"
    return attempt.state


def _age(entry: Entry) -> float:
    """Seconds since a file was written, by the clock of where it lies."""
    return max(0.0, (datetime.now(UTC) - entry.written).total_seconds())


def _left_s(unit: UnitProgress) -> float | None:
    """How long a unit that runs will, at most."""
    if unit.attempt is None or unit.attempt.time_left_s is None:
        return None
    return max(0.0, unit.attempt.time_left_s - unit.silent_s)


def _age_s(unit: UnitProgress) -> float:
    """How long a unit has been running."""
    return unit.attempt.told - unit.attempt.since + unit.silent_s if unit.attempt else 0.0


def _rate(attempt: Attempt | None) -> float:
    return 0.0 if attempt is None else attempt.clips_per_s or 0.0


def _node_use(node: str, attempts: Sequence[Attempt], is_over: bool) -> NodeUse:
    # Units that share a GPU tell of the same one.
    gpus = {attempt.gpu: attempt for attempt in attempts if attempt.gpu is not None}
    rates = [a.clips_per_s for a in attempts if a.clips_per_s is not None]
    percents = [a.gpu_percent for a in gpus.values() if a.gpu_percent is not None]
    return NodeUse(
        node=node,
        n_units=len(attempts),
        clips_per_s=sum(rates) / (max(1, len(rates)) if is_over else 1),
        n_gpus=len(gpus),
        gpu_percent=sum(percents) / len(percents) if percents else None,
        gpu_memory_bytes=sum(a.gpu_memory_bytes or 0 for a in gpus.values()),
        gpu_total_bytes=sum(a.gpu_total_bytes or 0 for a in gpus.values()),
    )
