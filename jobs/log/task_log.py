"""The log of a task, which its worker keeps: one object of the store for each attempt."""

import functools
import logging
import os
import secrets
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from jobs.log import gauges
from jobs.log.bulletin import LAST_WORDS_S, Bulletin
from jobs.log.files import AttemptRecord, encode_document, locate_attempt
from jobs.log.gpu_use import GpuUse, measure_gpu_use
from logit_store import LogitStore
from redact import redact_secrets

FIRST_AFTER_S = 2.0
"""The log of a task that ends sooner is written once, at its end."""
PATIENCE = 0.01
"""The share of its duration for which a task waits until its log is stored. At worst the end of the
log is lost: the logits show that the task is done."""
MAX_CHARACTERS = 64 * 1024
"""Characters of the lines that are kept of an attempt."""
_MAX_LINE = 16 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskLog:
    """The task whose log a worker keeps, and the store that holds it."""

    store: str
    """Address of the store."""
    job: str
    number: int
    name: str
    makes_logits: bool
    """Whether its logits in the store show that it is done."""
    attempt: int = 1
    """Which attempt at the task it is."""
    whole: bool = True
    """Whether this worker runs all of it, and not a part of it for another worker."""


@contextmanager
def keep_log(task: TaskLog | None) -> Iterator[None]:
    """Keep the log of the task that runs in this block; None is a task without a log.

    It contains the lines of `log_line`, warnings, and the traceback of an error that ends the block.
    A task that is stopped has neither failed nor ended, as far as its worker knows. `SystemExit` stops
    trials of Tune and tasks of Ray whose driver ends, `KeyboardInterrupt` tasks in the driver itself.
    """
    if task is None:
        yield
        return
    recorder = _Recorder(task)
    outer = _current.set(recorder)
    try:
        with _capture_warnings():
            yield
    except (SystemExit, KeyboardInterrupt):
        recorder.stop()
        raise
    except BaseException as error:
        recorder.fail(error)
        raise
    else:
        recorder.finish()
    finally:
        _current.reset(outer)


def get_current_log() -> TaskLog | None:
    """Return the log that is kept now, for a worker that does a part of the task."""
    recorder = _current.get()
    return None if recorder is None else replace(recorder.task, whole=False)


def log_line(
    line: str,
    *,
    epoch: int | None = None,
    max_epochs: int | None = None,
    clips_per_s: float | None = None,
    time_left_s: float | None = None,
) -> None:
    """Add a line, and the progress, to the log of the task that runs now, if one is kept."""
    recorder = _current.get()
    if recorder is None:
        return
    recorder.say(line)
    if epoch is not None:
        recorder.note(epoch, max_epochs, clips_per_s, time_left_s)


class _Recorder:
    """Writes one attempt at a task to the store."""

    def __init__(self, task: TaskLog) -> None:
        self.task = task
        now = time.time()
        self._attempt = AttemptRecord(
            unit=task.name,
            node=socket.gethostname(),
            pid=os.getpid(),
            since=now,
            told=now,
            reported=now,
            attempt=task.attempt,
        )
        self._n_characters = 0
        self._gpu_percents: list[float] = []
        self._lock = threading.Lock()
        began = f"{round(1000 * now):014d}-{secrets.token_hex(4)}"
        self._bulletin = Bulletin(
            _open_store(task.store),
            locate_attempt(task.job, task.number, began),
            self._encode,
            pulse=self._measure,
            first_after_s=FIRST_AFTER_S,
        )

    def say(self, line: str) -> None:
        """Keep a line, and drop the oldest lines if there are too many."""
        with self._lock:
            attempt = self._attempt
            attempt.reported = time.time()
            # Before the line is cut: half a secret would not be recognised.
            attempt.lines.append(redact_secrets(line)[:_MAX_LINE])
            self._n_characters += len(attempt.lines[-1])
            while self._n_characters > MAX_CHARACTERS:
                self._n_characters -= len(attempt.lines.pop(0))
                attempt.n_dropped += 1
        self._bulletin.update()

    def note(
        self,
        epoch: int,
        max_epochs: int | None,
        clips_per_s: float | None,
        time_left_s: float | None,
    ) -> None:
        """Note the progress."""
        with self._lock:
            self._attempt.epoch, self._attempt.max_epochs = epoch, max_epochs
            self._attempt.clips_per_s, self._attempt.time_left_s = clips_per_s, time_left_s

    def stop(self) -> None:
        """Write a last time that the task runs; its driver knows more."""
        self._bulletin.close(LAST_WORDS_S)

    def finish(self) -> None:
        """Note that the task is done."""
        self._attempt.state = "done"
        took_s = time.time() - self._attempt.since
        self._bulletin.close(PATIENCE * took_s if self.task.makes_logits else LAST_WORDS_S)

    def fail(self, error: BaseException) -> None:
        """Note that the task failed, and by which error."""
        self.say("".join(traceback.format_exception(error)).rstrip())
        self._attempt.error = f"{type(error).__name__}: {error}"
        self._attempt.state = "failed"
        self._bulletin.close(LAST_WORDS_S)

    def _measure(self) -> None:
        attempt, use = self._attempt, measure_gpu_use()
        if use is not None:
            self._note_use(use)
        # After the end its gauges go to 0: this process may run another task, or none.
        runs = attempt.state == "running"
        if self.task.whole:
            self._set_gauge(gauges.TASKS_RUNNING, int(runs))
        if attempt.clips_per_s is not None:
            self._set_gauge(gauges.CLIPS_PER_S, attempt.clips_per_s if runs else 0.0)

    def _note_use(self, use: GpuUse) -> None:
        with self._lock:
            attempt = self._attempt
            attempt.gpu = use.gpu
            attempt.gpu_memory_bytes, attempt.gpu_total_bytes = use.memory_bytes, use.total_bytes
            if use.percent is not None:
                self._gpu_percents.append(use.percent)
                attempt.gpu_percent = sum(self._gpu_percents) / len(self._gpu_percents)

    def _encode(self) -> bytes:
        with self._lock:
            self._attempt.told = time.time()
            return encode_document(self._attempt)

    def _set_gauge(self, name: str, value: float) -> None:
        gauges.set_gauge(name, value, job=self.task.job, recipe=gauges.parse_recipe(self.task.name))


@functools.cache
def _open_store(address: str) -> LogitStore:
    """Return one store for all tasks of this process: connecting to S3 takes longer than a write."""
    return LogitStore(address)


_current: ContextVar[_Recorder | None] = ContextVar("_current", default=None)


@contextmanager
def _capture_warnings() -> Iterator[None]:
    """Add the warnings of loggers and of `warnings` to the log; they still go where they went before."""
    root, handler = logging.getLogger(), _WarningHandler(logging.WARNING)
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)


class _WarningHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log_line(f"{record.levelname.lower()}: {record.getMessage().rstrip()}")
        # Without any other handler, logging would write warnings to stderr; because of this one it
        # does not.
        if logging.getLogger().handlers == [self] and logging.lastResort is not None:
            logging.lastResort.handle(record)
