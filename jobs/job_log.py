"""What a job's driver tells of the job: its plan, signs of life, units that died with their node."""

import os
import re
import secrets
import shlex
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from jobs import gauges
from jobs.bulletin import EVERY_S, Bulletin
from jobs.fanout import Task
from jobs.job_files import Driver, PlannedUnit, PlanPart, driver_object, encoded, plan_object
from jobs.redact import without_secrets
from jobs.unit_log import Unit
from logit_store import LogitKey, LogitStore
from training.provenance import code_commit

MAX_ERROR = 500
"""Characters that are kept of an error."""


class JobLog:
    """The log of a job, from its first unit that is not in the store to its end."""

    def __init__(self, store: LogitStore, search: str | None = None) -> None:
        """Touches nothing; `search` names the one that the units are trials of."""
        self._store = store
        now = time.time()
        self.job = _job_id(now)
        """Sorts by time; no two are alike."""
        self._driver = Driver(
            command=shlex.join(["python", *sys.argv]),
            commit=None,
            host=socket.gethostname(),
            pid=os.getpid(),
            since=now,
            told=now,
            search=search,
        )
        self._bulletin: Bulletin | None = None
        self._numbers: dict[tuple[str, tuple[LogitKey, ...]], int] = {}
        self._untold: list[PlannedUnit] = []
        self._n_parts = 0
        self._counts: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end("ended" if kind is None else "interrupted")

    def plan(self, tasks: Sequence[Task], stored: Sequence[bool]) -> None:
        """Take down units before they run.

        Args:
            tasks: the units.
            stored: whether each is in the store already.
        """
        for task, is_stored in zip(tasks, stored, strict=True):
            number = self._numbers.setdefault(_identity(task), len(self._numbers) + 1)
            keys = tuple(map(str, task.keys))
            self._untold.append(
                PlannedUnit(number=number, name=task.name, keys=keys, stored=is_stored)
            )
            gauge = gauges.UNITS_DONE if is_stored else gauges.UNITS_LEFT
            self._counts[gauges.recipe_of(task.name), gauge] += 1
        # A command that finds all in the store leaves no trace.
        if self._bulletin is not None or not all(stored):
            self._write_plan()

    def unit(self, task: Task) -> Unit:
        """What the worker needs that shall keep the log of a planned unit."""
        return Unit(
            store=self._store.address,
            job=self.job,
            number=self._numbers[_identity(task)],
            name=task.name,
            makes_logits=bool(task.keys),
        )

    def ended(self, task: Task, error: str | None = None) -> None:
        """Take down that a planned unit ended; if by an error, which.

        Args:
            task: the unit.
            error: of an error of its own the kind alone: its worker, which knows the secrets that
                may be in the text, has told the rest.
        """
        recipe = gauges.recipe_of(task.name)
        self._counts[recipe, gauges.UNITS_LEFT] -= 1
        self._counts[recipe, gauges.UNITS_FAILED if error else gauges.UNITS_DONE] += 1
        if self._bulletin is None or (task.keys and not error):
            return
        # Others each time, as the bulletin's thread may be at those that are there.
        number = self._numbers[_identity(task)]
        if error:
            told = {str(number): without_secrets(error)[:MAX_ERROR]}
            self._driver.ended_badly = self._driver.ended_badly | told
        else:
            self._driver.ended_well = [*self._driver.ended_well, number]
        self._bulletin.update()

    def end(self, state: Literal["ended", "interrupted"]) -> None:
        """Take down that nobody works on the job any more."""
        if self._bulletin is not None:
            self._driver.state = state
            self._bulletin.close()

    def _write_plan(self) -> None:
        self._n_parts += 1
        part, self._untold = PlanPart(units=self._untold), []
        self._store.write_object(plan_object(self.job, self._n_parts), encoded(part))
        if self._bulletin is None:
            self._driver.commit = code_commit()
            name = driver_object(self.job)
            self._store.write_object(name, self._content())
            self._bulletin = Bulletin(
                self._store, name, self._content, pulse=self._pulse, first_after_s=EVERY_S
            )

    def _content(self) -> bytes:
        self._driver.told = time.time()
        return encoded(self._driver)

    def _pulse(self) -> None:
        for (recipe, gauge), count in self._counts.copy().items():
            gauges.show(gauge, count, job=self.job, recipe=recipe)


def _job_id(now: float) -> str:
    began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    name = re.sub(r"[^A-Za-z0-9_-]", "_", Path(sys.argv[0]).stem)
    return f"{began}-{name}-{secrets.token_hex(2)}"


def _identity(task: Task) -> tuple[str, tuple[LogitKey, ...]]:
    return task.name, task.keys
