"""What `python jobs/status.py` shows of jobs whose logs lie in a store."""

import io
from contextlib import ExitStack

import pytest
from job_logs import fail, make_old, store_logits, unit, write_clips
from rich.console import Console

from jobs import status
from jobs.bulletin import LOST_AFTER_S
from jobs.job_files import Attempt, attempt_object, driver_object, encoded
from jobs.job_log import JobLog
from jobs.unit_log import logged, tell
from logit_store import LogitStore

NAMES = tuple(f"mn10_as_dir_fms split {split} seed 0" for split in (100, 50, 25, 10, 5))


@pytest.fixture
def store(tmp_path):
    made = LogitStore(str(tmp_path / "store"))
    write_clips(made)
    return made


@pytest.fixture
def told(called, store):
    """Runs the command on the store; what it printed."""

    def tell_of(*options, code=0):
        return called("jobs/status.py", "--store", store.address, *options, code=code)

    return tell_of


def running(log, task, **figures):
    """Let a unit have given a sign of life just now."""
    attempt = Attempt(unit=task.name, node="ip-10-0-3-17", pid=1, since=0.0, told=60.0, **figures)
    name = attempt_object(log.job, log.unit(task).number, "00000000000000")
    LogitStore(log.unit(task).store).write_object(name, encoded(attempt))


@pytest.fixture
def job(store, monkeypatch):
    """A job of five units: one done, one failed, two running, one waiting."""
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py", "--corpus", "tau"])
    with JobLog(store) as log:
        tasks = [unit(name) for name in NAMES]
        log.plan(tasks, [False] * 5)
        store_logits(store, tasks[0])
        fail(log, tasks[1], ValueError("batch size 0"))
        gpu = {"gpu": "H200 a", "gpu_percent": 91.2, "gpu_memory_bytes": 2**36}
        figures = {"epoch": 12, "max_epochs": 150, "clips_per_s": 812.4, "time_left_s": 7000.0}
        running(log, tasks[2], **figures, **gpu, gpu_total_bytes=2**37)
        running(log, tasks[3])
        yield log


def test_a_job_is_a_bar_with_counts_and_tables_of_80_columns(told, job):
    printed = told()
    assert f"{job.job}: running for " in printed
    assert "  [######........................] 1 of 5 units done\n" in printed
    assert "  2 running, 1 failed, 1 waiting, 812 clips/s, about " in printed
    row = next(line for line in printed.splitlines() if line.startswith(f" {NAMES[2]}"))
    assert row.split()[-6:] == ["running", "ip-10-0-3-17", "12/150", "812", "1.9", "h"]
    node = next(line for line in printed.splitlines() if line.startswith(" ip-10-0-3-17"))
    assert node.split()[1:] == ["2", "1", "91", "%", "64", "of", "128", "GiB", "812"]
    assert f"failed: {NAMES[1]}: ValueError: batch size 0" in printed
    assert "  python jobs/teachers.py --corpus tau\n" in printed
    shown, _, _ = printed.partition("next: ")
    assert max(map(len, shown.splitlines())) <= 80


def test_the_log_of_a_unit_is_what_it_said(told, job):
    chosen = unit("ensemble best split 25", makes_logits=False)
    job.plan([chosen], [False])
    with logged(job.unit(chosen)):
        tell("epoch 1/2, loss 2.303")
    printed = told("--log", chosen.name)
    assert f"{chosen.name}: done, since " in printed
    assert "\nepoch 1/2, loss 2.303\n" in printed
    failed = told("--log", "*split 50*")
    assert f"{NAMES[1]}: failed, since " in failed
    assert "Traceback (most recent call last)" in failed
    assert "ValueError: batch size 0" in failed


def test_a_unit_that_nobody_told_of_is_one_message(told, job):
    printed = told("--log", "mn10", code=1)
    assert "error: --log mn10: no worker has told of a unit called so" in printed


def test_the_log_of_a_unit_is_that_of_the_last_job_which_tried_it(told, store, job):
    with JobLog(store) as second:
        second.plan([unit(NAMES[1])], [False])
    assert f"{job.job}:" in told("--log", NAMES[1])


def test_a_store_without_jobs_says_so(told):
    assert "has no log of a job" in told(code=1)


def test_a_job_that_is_over_shows_what_its_nodes_did(told, store, job):
    job.end("ended")
    printed = told()
    assert f"{job.job}: ended " in printed
    assert "2 lost?" in printed
    assert "clips/s a unit" in printed
    assert "time left" not in printed
    assert "about" not in printed


def test_a_job_whose_driver_is_silent_says_what_to_do(told, store, job):
    make_old(store, driver_object(job.job), LOST_AFTER_S + 300)
    printed = told()
    assert "lost? Its driver on" in printed
    assert "has been silent for 7 min; the same command goes on" in printed


def test_of_very_many_failures_some_are_named_and_the_others_counted(told, store):
    with JobLog(store) as log:
        tasks = [unit(f"u{number}") for number in range(status.MAX_ROWS + 5)]
        log.plan(tasks, [False] * len(tasks))
        for task in tasks:
            log.ended(task, "WorkerCrashedError: gone")
    printed = told()
    assert printed.count("failed: u") == status.MAX_ROWS
    assert "and 5 more failed" in printed


def test_jobs_that_run_are_all_shown_and_others_named(told, store, monkeypatch):
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py"])
    with ExitStack() as stack:
        logs = [JobLog(store) for _ in range(3)]
        for second, log in enumerate(logs):
            log.job = f"20261122T01000{second}Z-teachers-0000"
            stack.enter_context(log).plan([unit("a")], [False])
        logs[0].end("ended")
        printed = told()
        assert all(f"{log.job}: running for" in printed for log in logs[1:])
        assert f"1 more jobs, see --job: {logs[0].job}" in printed
        assert f"{logs[0].job}: ended" in told("--job", logs[0].job)


@pytest.fixture
def pauses(monkeypatch):
    """What happens in each pause between two looks, one after the other."""
    made = []
    monkeypatch.setattr(status.time, "sleep", lambda seconds: made.pop(0)())
    return made


def test_watching_in_a_pipe_prints_at_each_change_until_the_job_is_over(told, store, job, pauses):
    def store_one():
        store_logits(store, unit(NAMES[4]))

    pauses += [lambda: None, store_one, lambda: None, lambda: job.end("ended")]
    printed = told("--watch")
    assert printed.count(f"{job.job}: ") == 3
    assert printed.count("2 of 5 units done") == 2
    assert pauses == []


def test_watching_on_a_terminal_redraws(told, store, job, pauses, monkeypatch):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80, height=60)
    monkeypatch.setattr(status, "console", terminal)
    pauses += [lambda: job.end("ended")]
    told("--watch")
    up_a_line = "\x1b[1A"
    assert up_a_line in screen.getvalue()
    assert f"{job.job}: ended" in screen.getvalue()
