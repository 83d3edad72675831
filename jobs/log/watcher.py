"""Reads the progress of jobs, live or afterwards, from their store alone."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar

from disk import identify_processes
from jobs.log.bulletin import LOST_AFTER_S
from jobs.log.files import (
    DRIVERS,
    AttemptRecord,
    DriverRecord,
    PlannedTask,
    PlanPart,
    decode_document,
    decode_summary,
    locate_attempt,
    locate_attempts,
    locate_driver,
    locate_plan,
    parse_job,
    parse_task_number,
)
from jobs.log.progress import JobProgress, TaskProgress, TaskState
from logit_store import DamagedFile, LogitStore
from logit_store.files import Entry
from logit_store.passed_over import warn
from terminal.console import UserError

READ_AT_ONCE = 16
"""Number of small objects that are read at the same time."""

Document = TypeVar("Document")
Decode = Callable[[bytes, str], Document]
"""From the bytes of an object, and its address, to the document that it holds."""
_DECODE_PLAN = partial(decode_document, PlanPart)
_DECODE_DRIVER = partial(decode_document, DriverRecord)
_DECODE_ATTEMPT = partial(decode_document, AttemptRecord)


class Watcher:
    """Reads the progress of jobs; an object that has not changed is read once."""

    def __init__(self, store: LogitStore) -> None:
        """Read nothing yet."""
        self._store = store
        self._read: dict[tuple[str, object], tuple[str, Any]] = {}
        """Versions and documents, by the name of the object and the function that decoded it."""

    def list_jobs(self) -> list[str]:
        """Return all jobs that have a log, the newest last.

        Raises:
            UserError: there is none.
        """
        return [parse_job(entry.name) for entry in self._find_drivers()]

    def find_current(self) -> list[str]:
        """Return the jobs that run, and the newest job of all whose driver's record can be read.

        Raises:
            UserError: there is none.
        """
        entries = self._find_drivers()
        sound = (
            e for e in reversed(entries) if self._read_documents(_DECODE_DRIVER, [e]) != [None]
        )
        newest = next(sound, entries[-1])
        return sorted({*self._read_running(entries), parse_job(newest.name)})

    def refuse_second(self, search: str) -> None:
        """Make sure that no other driver carries out a search.

        Raises:
            UserError: one does; the message says which.
        """
        for driver in self._read_running(self._store.files.find(DRIVERS)).values():
            if driver.search == search and _may_live(driver):
                raise UserError(
                    f"search {search} is being carried out by process {driver.pid} on "
                    f"{driver.host}: see python jobs/status.py, or give this one another --name "
                    f"(a driver that is lost is known to be so after {LOST_AFTER_S:.0f} s)"
                )

    def read_job(self, job: str) -> JobProgress:
        """Return the progress of a job.

        Raises:
            UserError: no job has that name.
        """
        entries = self._store.files.find(locate_driver(job))
        if not entries:
            raise UserError(f"--job {job}: no such job; there are: {', '.join(self.list_jobs())}")
        driver = self._read_document(_DECODE_DRIVER, entries[0])
        progress = JobProgress(job, driver, _find_age_s(entries[0]), [])
        planned = self._read_plan(job)
        # Listed together with the plan: logits that a later listing shows are not older than it.
        stored = {str(key) for key in self._store.keys(view=None)}
        ended_well = set(driver.ended_well)
        done = {task.number for task in planned if _is_done(task, stored, ended_well)}
        last = {parse_task_number(e.name): e for e in self._find_attempts(job)}
        # While the job runs, nobody asks about the thousands of tasks that are done.
        wanted = [number for number in last if progress.is_over or number not in done]
        records = self._read_documents(decode_summary, [last[number] for number in wanted])
        attempts = dict(zip(wanted, records, strict=True))
        for task in planned:
            attempt, entry = attempts.get(task.number), last.get(task.number)
            silent_s = _find_age_s(entry) if entry else 0.0
            error = driver.ended_badly.get(str(task.number))
            state = _find_state(task.number in done, error, attempt, silent_s, progress)
            if attempt is not None and attempt.error is not None:
                error = attempt.error
            progress.tasks.append(
                TaskProgress(task, state, attempt, silent_s, error if state == "failed" else None)
            )
        return progress

    def find_attempts(self, job: str, name: str) -> list[AttemptRecord]:
        """Return a job's attempts at the tasks of a name or glob pattern, the oldest first."""
        numbers = {task.number for task in self._read_plan(job) if fnmatchcase(task.name, name)}
        entries = [
            entry
            for number in sorted(numbers)
            for entry in self._store.files.find(locate_attempt(job, number, "*"))
        ]
        return [each for each in self._read_documents(_DECODE_ATTEMPT, entries) if each is not None]

    def _find_drivers(self) -> list[Entry]:
        entries = self._store.files.find(DRIVERS)
        if not entries:
            raise UserError(
                f"{self._store.address} has no log of a job: jobs that train or select leave one "
                "while they work (check --store)"
            )
        return entries

    def _read_running(self, entries: Sequence[Entry]) -> dict[str, DriverRecord]:
        """Return those drivers that gave a sign of life lately, by the names of their jobs."""
        recent = [entry for entry in entries if _find_age_s(entry) <= LOST_AFTER_S]
        drivers = zip(recent, self._read_documents(_DECODE_DRIVER, recent), strict=True)
        return {
            parse_job(entry.name): each
            for entry, each in drivers
            if each is not None and each.state == "running"
        }

    def _read_plan(self, job: str) -> list[PlannedTask]:
        parts = self._read_documents(_DECODE_PLAN, self._store.files.find(locate_plan(job, "*")))
        # A task that was planned twice is what the last part says.
        tasks = {task.number: task for part in parts if part is not None for task in part.units}
        return list(tasks.values())

    def _find_attempts(self, job: str) -> Sequence[Entry]:
        """Return a job's attempts in the order in which they began, task by task."""
        return self._store.files.find(locate_attempts(job))

    def _read_document(self, decode: Decode[Document], entry: Entry) -> Document:
        version, document = self._read.get((entry.name, decode), ("", None))
        if version != entry.version:
            data = self._store.files.get(entry.name)
            document = decode(data, self._store.files.locate(entry.name))
            self._read[entry.name, decode] = (entry.version, document)
        return document

    def _read_documents(
        self, decode: Decode[Document], entries: Sequence[Entry]
    ) -> list[Document | None]:
        """Read many documents; None stands for one that is damaged, which a warning names."""

        def read(entry: Entry) -> Document | None:
            try:
                return self._read_document(decode, entry)
            except DamagedFile as error:
                warn(error)
                return None

        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            return list(pool.map(read, entries))


def _is_done(task: PlannedTask, stored: set[str], ended_well: set[int]) -> bool:
    return stored.issuperset(task.keys) if task.keys else task.number in ended_well


def _may_live(driver: DriverRecord) -> bool:
    """Return whether a driver's process may still run, as far as this process can see."""
    # Hosts and containers may have the same name.
    if driver.processes != identify_processes():
        return True
    try:
        os.kill(driver.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return driver.pid != os.getpid()


def _find_state(
    is_done: bool,
    error: str | None,
    attempt: AttemptRecord | None,
    silent_s: float,
    job: JobProgress,
) -> TaskState:
    if is_done:
        return "done"
    if error is not None:
        return "failed"
    if attempt is None:
        return "waiting"
    if attempt.state == "running":
        if job.driver.state == "interrupted":
            return "stopped"
        return "lost?" if job.is_over or silent_s > LOST_AFTER_S else "running"
    return attempt.state


def _find_age_s(entry: Entry) -> float:
    """Return the seconds since a file was written, by the clock of its store."""
    return max(0.0, (datetime.now(UTC) - entry.written).total_seconds())
