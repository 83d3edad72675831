"""What a worker tells of the unit that it runs: an object of the store for each attempt."""

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

from jobs import gauges
from jobs.bulletin import LAST_WORDS_S, Bulletin
from jobs.gpu_use import GpuUse, gpu_use
from jobs.job_files import Attempt, attempt_object, encoded
from jobs.redact import without_secrets
from logit_store import LogitStore

FIRST_AFTER_S = 2.0
"""A unit that ends sooner is written down once, when it has ended."""
PATIENCE = 0.01
"""The share of its time for which a unit waits until its last words are stored. What may be lost
by that is log: its logits say that it is done."""
MAX_CHARACTERS = 64 * 1024
"""Of the lines that are kept of an attempt."""
_MAX_LINE = 16 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """Whose log a worker keeps, and where."""

    store: str
    """Its address."""
    job: str
    number: int
    name: str
    makes_logits: bool
    """Whether the store's logits say that it is done."""
    whole: bool = True
    """Whether the worker runs all of it, and not a part for another one."""


@contextmanager
def logged(unit: Unit | None) -> Iterator[None]:
    """Keep the log of the unit that runs in this block; None is a unit without a log.

    Warnings are kept, what `tell` is told, and the traceback of an error that ends the block. One
    that is stopped, by `SystemExit`, has not failed.
    """
    if unit is None:
        yield
        return
    recorder = _Recorder(unit)
    outer = _current.set(recorder)
    try:
        with _listening():
            yield
    except SystemExit:
        recorder.finish()
        raise
    except BaseException as error:
        recorder.fail(error)
        raise
    else:
        recorder.finish()
    finally:
        _current.reset(outer)


def current_unit() -> Unit | None:
    """The unit whose log is kept now, for a worker that does part of its work."""
    recorder = _current.get()
    return None if recorder is None else replace(recorder.unit, whole=False)


def tell(
    line: str,
    *,
    epoch: int | None = None,
    max_epochs: int | None = None,
    clips_per_s: float | None = None,
    time_left_s: float | None = None,
) -> None:
    """Keep a line for the log of the unit that runs now, if one is kept, and how it goes."""
    recorder = _current.get()
    if recorder is None:
        return
    recorder.say(line)
    if epoch is not None:
        recorder.note(epoch, max_epochs, clips_per_s, time_left_s)


class _Recorder:
    """One attempt at a unit, on its way into the store."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        now = time.time()
        self._attempt = Attempt(
            unit=unit.name, node=socket.gethostname(), pid=os.getpid(), since=now, told=now
        )
        self._n_characters = 0
        self._gpu_percents: list[float] = []
        self._lock = threading.Lock()
        began = f"{round(1000 * now):014d}-{secrets.token_hex(4)}"
        self._bulletin = Bulletin(
            _store_at(unit.store),
            attempt_object(unit.job, unit.number, began),
            self._content,
            pulse=self._pulse,
            first_after_s=FIRST_AFTER_S,
        )

    def say(self, line: str) -> None:
        """Keep a line, and let the oldest go if there are too many."""
        with self._lock:
            attempt = self._attempt
            # Before it is cut: half a secret would not be known as one.
            attempt.lines.append(without_secrets(line)[:_MAX_LINE])
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
        """Take down how far it has come."""
        with self._lock:
            self._attempt.epoch, self._attempt.max_epochs = epoch, max_epochs
            self._attempt.clips_per_s, self._attempt.time_left_s = clips_per_s, time_left_s

    def finish(self) -> None:
        """Say that it is done."""
        self._attempt.state = "done"
        took_s = time.time() - self._attempt.since
        self._bulletin.close(PATIENCE * took_s if self.unit.makes_logits else LAST_WORDS_S)

    def fail(self, error: BaseException) -> None:
        """Say that it failed, and why."""
        self.say("".join(traceback.format_exception(error)).rstrip())
        self._attempt.error = f"{type(error).__name__}: {error}"
        self._attempt.state = "failed"
        self._bulletin.close(LAST_WORDS_S)

    def _pulse(self) -> None:
        attempt, use = self._attempt, gpu_use()
        if use is not None:
            self._note_use(use)
        # This process may serve other units, or none: what it told last is no longer so.
        runs = attempt.state == "running"
        if self.unit.whole:
            self._show(gauges.UNITS_RUNNING, int(runs))
        if attempt.clips_per_s is not None:
            self._show(gauges.CLIPS_PER_S, attempt.clips_per_s if runs else 0.0)

    def _note_use(self, use: GpuUse) -> None:
        with self._lock:
            attempt = self._attempt
            attempt.gpu = use.gpu
            attempt.gpu_memory_bytes, attempt.gpu_total_bytes = use.memory_bytes, use.total_bytes
            if use.percent is not None:
                self._gpu_percents.append(use.percent)
                attempt.gpu_percent = sum(self._gpu_percents) / len(self._gpu_percents)

    def _content(self) -> bytes:
        with self._lock:
            self._attempt.told = time.time()
            return encoded(self._attempt)

    def _show(self, name: str, value: float) -> None:
        gauges.show(name, value, job=self.unit.job, recipe=gauges.recipe_of(self.unit.name))


@functools.cache
def _store_at(address: str) -> LogitStore:
    """One for all units of this process: to connect to S3 takes longer than to write."""
    return LogitStore(address)


_current: ContextVar[_Recorder | None] = ContextVar("_current", default=None)


@contextmanager
def _listening() -> Iterator[None]:
    """Keep what loggers and `warnings` warn of, which still goes where it went before."""
    root, listener = logging.getLogger(), _Listener(logging.WARNING)
    root.addHandler(listener)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(listener)


class _Listener(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(f"{record.levelname.lower()}: {record.getMessage().rstrip()}")
        # Where nobody else listens, logging writes warnings to stderr: not so if we do.
        if logging.getLogger().handlers == [self] and logging.lastResort is not None:
            logging.lastResort.handle(record)
