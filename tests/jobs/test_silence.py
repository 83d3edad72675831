"""Attempts that report nothing: the driver warns of them, and stops them after --unit-timeout."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
from job_logs import make_task

from jobs.log.files import AttemptRecord, encode_document, locate_attempt
from jobs.schedule.fanout import RETRIES, FanOut
from jobs.schedule.job_log import JobLog
from jobs.schedule.silence import Silence
from jobs.schedule.task import Needs
from jobs.schedule.workers import InProcess, LostWorker
from logit_store import LogitStore, UnreachableStore
from terminal.tables import format_duration

MINUTE = 60.0
STEP_S = 30.0
"""How far the clock goes while the driver waits once."""
TIMEOUT_S = 5 * MINUTE
EPOCH_S = 12.0


@dataclass
class Clock:
    """A clock that others move."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Hanging(InProcess):
    """Workers that write the logs they are told to, and end an attempt when that function says so."""

    store: LogitStore
    clock: Clock
    write: Callable[["Hanging", int], bool]
    """Called in each wait with the workers and a handle; returns whether the attempt has ended."""
    stopped: list[int] = field(default_factory=list)
    attempts: list = field(default_factory=list)
    began: dict[int, float] = field(default_factory=dict)

    def submit(self, attempt):
        self.attempts.append(attempt)
        self.began[len(self.attempts) - 1] = self.clock.now
        return len(self.attempts) - 1

    def wait(self, handles, timeout_s):
        self.clock.now += STEP_S
        ended = [handle for handle in handles if self.write(self, handle)]
        return [*ended, *(handle for handle in handles if handle in self.stopped)]

    def fetch(self, handle):
        if handle in self.stopped:
            raise LostWorker("TaskCancelledError: it was cancelled")
        return None, self.clock.now - self.began[handle]

    def stop(self, handle):
        self.stopped.append(handle)

    def running_s(self, handle):
        return self.clock.now - self.began[handle]

    def record(self, handle, *lines, **progress):
        """Write the log of an attempt, with a new sign of life."""
        log = self.attempts[handle].log
        told = self.clock.now
        record = AttemptRecord(
            unit=log.name,
            node="n",
            pid=1,
            since=0.0,
            told=told,
            attempt=log.attempt,
            lines=list(lines),
            **progress,
        )
        name = locate_attempt(log.job, log.number, f"{handle:04d}")
        self.store.objects.write(name, encode_document(record))


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr("jobs.schedule.job_log.Silence", partial(Silence, clock=made))
    return made


@pytest.fixture
def store(tmp_path):
    return LogitStore(tmp_path / "store")


def run(store, clock, write, *names, timeout_s=None):
    """Run tasks of these names to their end; return the outcomes and the workers."""
    workers = Hanging(store, clock, write)
    tasks = [make_task(name, makes_logits=False) for name in names]
    with JobLog(store) as log:
        log.plan(tasks, [False] * len(tasks))
        fan_out = FanOut(workers, Needs(), log=log, timeout_s=timeout_s)
        fan_out.add(tasks)
        return list(fan_out), workers


def test_an_attempt_that_reports_nothing_is_stopped_and_the_task_is_tried_again(
    store, clock, capsys
):
    def hang_once(workers, handle):
        workers.record(handle, "epoch 1/9")
        return handle > 0

    (outcome,), workers = run(store, clock, hang_once, "a", timeout_s=TIMEOUT_S)
    assert outcome.error is None
    assert workers.stopped == [0]
    assert [each.log.attempt for each in workers.attempts] == [1, 2]
    printed = capsys.readouterr().err
    assert (
        printed
        == "a runs again: stopped after it had reported nothing for 6 min (--unit-timeout)\n"
    )


def test_a_task_that_always_hangs_fails_in_words_and_the_others_are_done(store, clock):
    def hang(workers, handle):
        workers.record(handle)
        return workers.attempts[handle].name == "b"

    outcomes, workers = run(store, clock, hang, "a", "b", timeout_s=TIMEOUT_S)
    errors = {outcome.task.name: outcome.error for outcome in outcomes}
    assert errors == {
        "a": "stopped after it had reported nothing for 6 min (--unit-timeout)",
        "b": None,
    }
    assert len(workers.stopped) == 1 + RETRIES


def test_what_reports_goes_on_and_so_does_what_no_worker_has_begun(store, clock):
    def work(workers, handle):
        ran_s = workers.running_s(handle)
        # Both end after twenty minutes; one waits for a worker for fifteen of them.
        if workers.attempts[handle].name == "a" or ran_s > 15 * MINUTE:
            workers.record(handle, *("a line" for _ in range(int(ran_s // (4 * MINUTE)))))
        return ran_s > 20 * MINUTE

    outcomes, workers = run(store, clock, work, "a", "b", timeout_s=TIMEOUT_S)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert workers.stopped == []


def test_time_in_which_the_store_does_not_answer_is_no_silence(store, clock, monkeypatch):
    find = store.files.find

    def fail(pattern):
        if 2 * MINUTE < clock.now - 1000 < 10 * MINUTE:
            raise UnreachableStore("s3://bucket", reason="no answer", way_out="wait")
        return find(pattern)

    def work(workers, handle):
        workers.record(handle)
        return workers.running_s(handle) > 12 * MINUTE

    workers = Hanging(store, clock, work)
    task = make_task("a", makes_logits=False)
    with JobLog(store) as log:
        log.plan([task], [False])
        fan_out = FanOut(workers, Needs(), log=log, timeout_s=TIMEOUT_S)
        fan_out.add([task])
        monkeypatch.setattr(store.files, "find", fail)
        (outcome,) = fan_out
    assert (outcome.error, workers.stopped) == (None, [])


@pytest.mark.parametrize(("silent_s", "warnings"), [(9 * EPOCH_S, 0), (30 * EPOCH_S, 1)])
def test_a_task_that_is_silent_for_ten_usual_epochs_is_warned_of_once(
    store, clock, capsys, silent_s, warnings
):
    def work(workers, handle):
        workers.record(handle, "epoch 1/9", epoch=1, max_epochs=9, time_left_s=8 * EPOCH_S)
        return workers.running_s(handle) > silent_s

    (outcome,), workers = run(store, clock, work, "a")
    assert (outcome.error, workers.stopped) == (None, [])
    printed = capsys.readouterr().err
    assert printed.count("a has reported nothing for ") == warnings
    assert printed.count(f"an epoch takes {format_duration(EPOCH_S)}: it may hang") == warnings


def test_a_task_without_an_epoch_is_measured_by_those_of_its_recipe(store, clock, capsys):
    def work(workers, handle):
        ran_s = workers.running_s(handle)
        if workers.attempts[handle].name == "demo_mn split 25":
            n = int(ran_s // EPOCH_S)
            progress = {"epoch": n, "max_epochs": 99, "time_left_s": (99 - n) * EPOCH_S}
            workers.record(handle, *("epoch" for _ in range(n)), **progress)
        else:
            workers.record(handle)
        return ran_s > 15 * EPOCH_S

    run(store, clock, work, "demo_mn split 25", "demo_mn split 50", "demo_cpr split 25")
    assert capsys.readouterr().err == (
        f"demo_mn split 50 has reported nothing for {format_duration(150)}, and an epoch "
        f"takes {format_duration(EPOCH_S)}: it may hang (--unit-timeout MINUTES ends what does)\n"
    )


def test_a_timeout_that_a_command_cannot_keep_is_refused(called, commands, tmp_path):
    options = ("--recipes", "demo_cpr", "--splits", "25", "--unit-timeout", "30")
    printed = called(*commands.arguments("teachers", *options, store=tmp_path), code=1)
    assert "error: --unit-timeout 30: with TUTTI_IN_PROCESS=1 tasks run in the process" in printed
