"""The log of a job, which its driver keeps: its plan, signs of life, and tasks that failed."""

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
from typing import Any, Literal, Self

from disk import identify_processes
from jobs.log import gauges
from jobs.log.bulletin import EVERY_S, Bulletin
from jobs.log.files import (
    DriverRecord,
    PlannedTask,
    PlanPart,
    encode_document,
    locate_driver,
    locate_plan,
)
from jobs.log.task_log import TaskLog
from jobs.schedule.silence import Silence
from jobs.schedule.task import Task
from logit_store import LogitKey, LogitStore
from redact import redact_secrets
from training.provenance import find_commit

MAX_ERROR = 500
"""Number of characters that are kept of an error."""


class JobLog:
    """The log of a job, from its first task that is not in the store to its end."""

    def __init__(self, store: LogitStore, search: str | None = None) -> None:
        """Write nothing yet; `search` is the name of the search whose trials the tasks are."""
        self._store = store
        now = time.time()
        self.job = _make_job_name(now)
        """Its name, unique; names sort by time."""
        self._driver = DriverRecord(
            command=shlex.join(["python", *sys.argv]),
            commit=None,
            host=socket.gethostname(),
            pid=os.getpid(),
            processes=identify_processes(),
            since=now,
            told=now,
            search=search,
        )
        self._bulletin: Bulletin | None = None
        self._numbers: dict[tuple[str, tuple[LogitKey, ...]], int] = {}
        self._unwritten: list[PlannedTask] = []
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

    def plan(self, tasks: Sequence[Task[Any]], stored: Sequence[bool]) -> None:
        """Note tasks before they run.

        Args:
            tasks: the tasks.
            stored: for each, whether it is in the store already.
        """
        for task, is_stored in zip(tasks, stored, strict=True):
            number = self._numbers.setdefault(_identify(task), len(self._numbers) + 1)
            keys = tuple(map(str, task.keys))
            self._unwritten.append(
                PlannedTask(number=number, name=task.name, keys=keys, stored=is_stored)
            )
            gauge = gauges.TASKS_DONE if is_stored else gauges.TASKS_LEFT
            self._counts[gauges.parse_recipe(task.name), gauge] += 1
        # A command that finds everything in the store leaves no log.
        if self._bulletin is not None or not all(stored):
            self._write_plan()

    def find_task_log(self, task: Task[Any], attempt: int = 1) -> TaskLog:
        """Return what the worker of a planned task needs to keep the log of an attempt at it."""
        return TaskLog(
            store=self._store.address,
            job=self.job,
            number=self._numbers[_identify(task)],
            name=task.name,
            makes_logits=bool(task.keys),
            attempt=attempt,
        )

    def watch_silence(self, timeout_s: float | None) -> Silence:
        """Return what notices attempts that report nothing, for longer than a timeout if there is one."""
        return Silence(self._store, self.job, timeout_s)

    def note_end(self, task: Task[Any], error: str | None = None) -> None:
        """Note that a planned task has ended, or failed.

        Args:
            task: the task.
            error: how it failed. For an error of its own, only its class: its worker, which knows
                the secrets that the text may contain, logs the rest.
        """
        recipe = gauges.parse_recipe(task.name)
        self._counts[recipe, gauges.TASKS_LEFT] -= 1
        self._counts[recipe, gauges.TASKS_FAILED if error else gauges.TASKS_DONE] += 1
        if self._bulletin is None or (task.keys and not error):
            return
        # New objects each time, because the bulletin's thread may be reading the old ones.
        number = self._numbers[_identify(task)]
        if error:
            text = redact_secrets(error)[:MAX_ERROR]
            self._driver.ended_badly = self._driver.ended_badly | {str(number): text}
        else:
            self._driver.ended_well = [*self._driver.ended_well, number]
        self._bulletin.update()

    def end(self, state: Literal["ended", "interrupted"]) -> None:
        """Note that nobody works on the job any more."""
        if self._bulletin is not None:
            self._driver.state = state
            self._bulletin.close()

    def _write_plan(self) -> None:
        self._n_parts += 1
        part, self._unwritten = PlanPart(units=self._unwritten), []
        self._store.objects.write(locate_plan(self.job, self._n_parts), encode_document(part))
        if self._bulletin is None:
            self._driver.commit = find_commit()
            name = locate_driver(self.job)
            self._store.objects.write(name, self._encode())
            self._bulletin = Bulletin(
                self._store, name, self._encode, pulse=self._export_gauges, first_after_s=EVERY_S
            )

    def _encode(self) -> bytes:
        self._driver.told = time.time()
        return encode_document(self._driver)

    def _export_gauges(self) -> None:
        for (recipe, gauge), count in self._counts.copy().items():
            gauges.set_gauge(gauge, count, job=self.job, recipe=recipe)


def _make_job_name(now: float) -> str:
    began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    name = re.sub(r"[^A-Za-z0-9_-]", "_", Path(sys.argv[0]).stem)
    return f"{began}-{name}-{secrets.token_hex(2)}"


def _identify(task: Task[Any]) -> tuple[str, tuple[LogitKey, ...]]:
    return task.name, task.keys
