"""Notices attempts that have reported nothing for long: they may hang, and nothing else would end them."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from jobs.log.bulletin import SILENT_S
from jobs.log.files import AttemptRecord, decode_document, locate_attempts, parse_task_number
from jobs.log.gauges import parse_recipe
from jobs.log.progress import estimate_epoch_s, is_unusual
from jobs.log.task_log import TaskLog
from logit_store import LogitStore, LogitStoreError
from logit_store.files import Entry
from terminal.console import error_console
from terminal.tables import format_duration

LOOKS = 4
"""Least number of looks within the timeout."""
READ_AT_ONCE = 16
"""Number of small objects that are read at the same time."""


@dataclass(slots=True)
class _Heard:
    """What was last heard of an attempt."""

    reports: frozenset[tuple[str, int]] = frozenset()
    """Its logs, several if it has several processes, with the number of lines of each."""
    at: float = 0.0
    """When that was new, by the driver's clock."""
    epoch_s: float | None = None
    """Seconds of its last epoch but the very last."""
    is_warned_of: bool = False


class Silence:
    """How long the attempts of a job have reported nothing.

    A worker reports each epoch, warning and error as a line of its log in the store. The signs of life
    that a thread of it writes besides do not count: they go on when the work hangs. Time in which the
    store cannot be read does not count either.

    Args:
        store: holds the logs.
        job: name of the job.
        timeout_s: how long an attempt may report nothing; None is without end.
        clock: returns seconds.
    """

    def __init__(
        self,
        store: LogitStore,
        job: str,
        timeout_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._job, self._timeout_s, self._clock = store, job, timeout_s, clock
        self._every_s = min(SILENT_S, timeout_s / LOOKS) if timeout_s else SILENT_S
        self._looked = clock()
        self._read: dict[str, tuple[str, AttemptRecord]] = {}
        """The logs of tasks that run, by their names, with the versions that were read."""
        self._heard: dict[TaskLog, _Heard] = {}
        self._epochs_s: dict[str, float] = {}
        """Seconds of the last known epoch, by recipe."""

    def look(self, running: Iterable[TaskLog]) -> dict[TaskLog, float]:
        """Return the attempts that are silent for longer than the timeout, with the seconds; warn of others.

        It looks every 30 seconds at most, and returns nothing in between. An attempt that no worker
        has begun is not silent.
        """
        now = self._clock()
        passed_s = now - self._looked
        if passed_s < self._every_s:
            return {}
        self._looked = now
        try:
            reported = self._read_reports(list(running))
        except (LogitStoreError, OSError):
            for heard in self._heard.values():
                heard.at += passed_s
            return {}
        self._heard = {task: self._hear(task, logs, now) for task, logs in reported.items()}
        silent_s = {task: now - heard.at for task, heard in self._heard.items()}
        for task, each in silent_s.items():
            self._warn_if_unusual(task, each)
        return {
            task: each
            for task, each in silent_s.items()
            if self._timeout_s and each > self._timeout_s
        }

    def find_process(self, task: TaskLog) -> AttemptRecord:
        """Return the newest log of an attempt that is silent, which names its process."""
        logs = [
            (name, record)
            for name, (_, record) in self._read.items()
            if (parse_task_number(name), record.attempt) == (task.number, task.attempt)
        ]
        return max(logs, key=lambda log: log[0])[1]

    def _read_reports(self, running: list[TaskLog]) -> dict[TaskLog, dict[str, AttemptRecord]]:
        """Read the logs of attempts, by name; those that have not changed are not read again."""
        numbers = {task.number for task in running}
        entries = self._store.files.find(locate_attempts(self._job)) if running else []
        entries = [entry for entry in entries if parse_task_number(entry.name) in numbers]
        with ThreadPoolExecutor(READ_AT_ONCE) as pool:
            records = list(pool.map(self._read_record, entries))
        self._read = {
            entry.name: (entry.version, record)
            for entry, record in zip(entries, records, strict=True)
        }
        attempts = {(task.number, task.attempt): task for task in running}
        found: dict[TaskLog, dict[str, AttemptRecord]] = {}
        for name, (_, record) in self._read.items():
            task = attempts.get((parse_task_number(name), record.attempt))
            if task is not None:
                found.setdefault(task, {})[name] = record
        return found

    def _read_record(self, entry: Entry) -> AttemptRecord:
        version, record = self._read.get(entry.name, ("", None))
        if record is not None and version == entry.version:
            return record
        data = self._store.files.get(entry.name)
        return decode_document(AttemptRecord, data, self._store.files.locate(entry.name))

    def _hear(self, task: TaskLog, logs: dict[str, AttemptRecord], now: float) -> _Heard:
        """Return what is known of an attempt by its logs."""
        heard = self._heard.get(task, _Heard())
        reports = frozenset((name, log.n_dropped + len(log.lines)) for name, log in logs.items())
        if reports != heard.reports:
            heard.reports, heard.at = reports, now
        for log in logs.values():
            epoch_s = estimate_epoch_s(log)
            if epoch_s is not None:
                heard.epoch_s = self._epochs_s[parse_recipe(task.name)] = epoch_s
        return heard

    def _warn_if_unusual(self, task: TaskLog, silent_s: float) -> None:
        """Print once that a task is silent for many of its usual epochs, or else of its recipe's."""
        heard = self._heard[task]
        epoch_s = heard.epoch_s or self._epochs_s.get(parse_recipe(task.name))
        if epoch_s is not None and is_unusual(silent_s, epoch_s) and not heard.is_warned_of:
            heard.is_warned_of = True
            error_console.print(
                f"{task.name} has reported nothing for {format_duration(silent_s)}, and an epoch takes "
                f"{format_duration(epoch_s)}: it may hang (--unit-timeout MINUTES ends what does)",
                markup=False,
            )
