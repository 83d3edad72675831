"""What `python jobs/status.py` shows of jobs whose logs lie in a store."""

import io
import time
from contextlib import ExitStack

import pytest
from job_logs import fail, make_old, make_task, store_logits, write_clips
from rich.console import Console

from jobs import status
from jobs.log.bulletin import LOST_AFTER_S
from jobs.log.files import AttemptRecord, encode_document, locate_attempt, locate_driver
from jobs.log.task_log import keep_log, log_line
from jobs.schedule.job_log import JobLog
from logit_store import LogitStore

NAMES = tuple(f"mn10_as_dir_fms split {split} seed 0" for split in (100, 50, 25, 10, 5))


@pytest.fixture
def store(tmp_path):
    made = LogitStore(str(tmp_path / "store"))
    write_clips(made)
    return made


@pytest.fixture
def run_status(called, store):
    """Runs the command on the store; returns what it printed."""

    def run(*options, code=0):
        return called("jobs/status.py", "--store", store.address, *options, code=code)

    return run


def running(log, task, **figures):
    """Write a sign of life of a task, as of now."""
    attempt = AttemptRecord(
        unit=task.name, node="ip-10-0-3-17", pid=1, since=0.0, told=60.0, **figures
    )
    name = locate_attempt(log.job, log.find_task_log(task).number, "00000000000000")
    LogitStore(log.find_task_log(task).store).objects.write(name, encode_document(attempt))


@pytest.fixture
def job(store, monkeypatch):
    """The log of a job of five tasks: one done, one failed, two running, one waiting."""
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py", "--corpus", "tau"])
    with JobLog(store) as log:
        tasks = [make_task(name) for name in NAMES]
        log.plan(tasks, [False] * 5)
        store_logits(store, tasks[0])
        fail(log, tasks[1], ValueError("batch size 0"))
        gpu = {"gpu": "H200 a", "gpu_percent": 91.2, "gpu_memory_bytes": 2**36}
        figures = {"epoch": 12, "max_epochs": 150, "clips_per_s": 812.4, "time_left_s": 7000.0}
        running(log, tasks[2], **figures, **gpu, gpu_total_bytes=2**37)
        running(log, tasks[3])
        yield log


def test_a_job_is_a_bar_with_counts_and_tables_of_80_columns(run_status, job):
    printed = run_status()
    assert f"{job.job}: running for " in printed
    assert "  [######........................] 1 of 5 tasks done\n" in printed
    assert "  2 running, 1 failed, 1 waiting, 812 clips/s, about " in printed
    row = next(line for line in printed.splitlines() if line.startswith(f" {NAMES[2]}"))
    assert row.split()[-6:] == ["running", "ip-10-0-3-17", "12/150", "812", "1.9", "h"]
    node = next(line for line in printed.splitlines() if line.startswith(" ip-10-0-3-17"))
    assert node.split()[1:] == ["2", "1", "91", "%", "64", "of", "128", "GiB", "812"]
    assert f"failed: {NAMES[1]}: ValueError: batch size 0" in printed
    assert "  python jobs/teachers.py --corpus tau\n" in printed
    shown, _, _ = printed.partition("next: ")
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("silent_min", "shown"), [(15, ["2", "min"]), (25, ["silent", "25", "min"])]
)
def test_a_task_that_gives_signs_of_life_and_no_reports_is_shown_as_silent(
    run_status, job, silent_min, shown
):
    # An epoch takes two minutes.
    figures = {"epoch": 149, "max_epochs": 150, "clips_per_s": 812.4, "time_left_s": 120.0}
    task = make_task("short")
    job.plan([task], [False])
    running(job, task, **figures, reported=60 - 60.0 * silent_min)
    row = next(line for line in run_status().splitlines() if line.startswith(" short"))
    assert row.split()[-len(shown) :] == shown


def test_a_damaged_sign_of_life_hides_no_other(run_status, store, job, caplog):
    name = locate_attempt(job.job, 3, "00000000000000")
    store.objects.write(name, store.objects.read(name).replace(b"812.4", b"912.4"))
    assert "  1 running, 1 failed, 2 waiting" in run_status()
    assert any(f"{name}: cannot be read" in each for each in caplog.messages)


def test_a_damaged_driver_of_the_newest_job_hides_no_other(run_status, store, job, caplog):
    newest = locate_driver("99991231T000000Z-teachers-0000")
    store.objects.write(newest, b"{}")
    assert "  2 running, 1 failed, 1 waiting" in run_status()
    assert any(f"{newest}: cannot be read" in each for each in caplog.messages)


def test_the_log_of_a_task_is_what_it_said(run_status, job):
    chosen = make_task("ensemble best split 25", makes_logits=False)
    job.plan([chosen], [False])
    with keep_log(job.find_task_log(chosen)):
        log_line("epoch 1/2, loss 2.303")
    printed = run_status("--log", chosen.name)
    assert f"{chosen.name}: done, since " in printed
    assert "\nepoch 1/2, loss 2.303\n" in printed
    failed = run_status("--log", "*split 50*")
    assert f"{NAMES[1]}: failed, since " in failed
    assert "Traceback (most recent call last)" in failed
    assert "ValueError: batch size 0" in failed


def test_an_unknown_task_is_one_message(run_status, job):
    printed = run_status("--log", "mn10", code=1)
    assert "error: --log mn10: no worker has a log of a task of this name" in printed


def test_the_log_of_a_task_is_that_of_the_last_job_which_tried_it(run_status, store, job):
    with JobLog(store) as second:
        second.plan([make_task(NAMES[1])], [False])
    assert f"{job.job}:" in run_status("--log", NAMES[1])


def test_a_store_without_jobs_says_so(run_status):
    assert "has no log of a job" in run_status(code=1)


def test_a_job_that_is_over_shows_what_its_nodes_did(run_status, store, job):
    job.end("ended")
    printed = run_status()
    assert f"{job.job}: ended " in printed
    assert "2 lost?" in printed
    assert "clips/s a task" in printed
    assert "time left" not in printed
    assert "about" not in printed


def test_the_tasks_of_an_interrupted_job_have_stopped_and_are_not_called_silent(run_status, job):
    task = make_task("short")
    job.plan([task], [False])
    figures = {"epoch": 2, "max_epochs": 150, "time_left_s": 148.0}
    running(job, task, **figures, reported=60.0 - 3600)
    job.end("interrupted")
    printed = run_status()
    assert "  3 stopped, 1 failed, 1 waiting\n" in printed
    row = next(line for line in printed.splitlines() if line.startswith(" short"))
    assert row.split()[1:] == ["stopped", "ip-10-0-3-17", "2/150", "-", "-"]
    assert "silent" not in printed
    assert "lost?" not in printed


def test_a_copied_store_says_when_the_job_ended_and_not_when_it_was_copied(
    run_status, store, job, monkeypatch
):
    job.end("ended")
    ended = time.time()
    monkeypatch.setattr("time.time", lambda: ended + 7200)
    assert f"{job.job}: ended 2.0 h ago" in run_status()


def test_a_job_whose_driver_is_silent_says_what_to_do(run_status, store, job):
    make_old(store, locate_driver(job.job), LOST_AFTER_S + 300)
    printed = run_status()
    assert "lost? Its driver on" in printed
    assert "has been silent for 7 min; the same command continues" in printed


def test_some_of_very_many_failures_are_named_and_the_others_counted(run_status, store):
    with JobLog(store) as log:
        tasks = [make_task(f"u{number}") for number in range(status.MAX_ROWS + 5)]
        log.plan(tasks, [False] * len(tasks))
        for task in tasks:
            log.note_end(task, "WorkerCrashedError: gone")
    printed = run_status()
    assert printed.count("failed: u") == status.MAX_ROWS
    assert "and 5 more failed" in printed


def test_jobs_that_run_are_all_shown_and_others_named(run_status, store, monkeypatch):
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py"])
    with ExitStack() as stack:
        logs = [JobLog(store) for _ in range(3)]
        for second, log in enumerate(logs):
            log.job = f"20261122T01000{second}Z-teachers-0000"
            stack.enter_context(log).plan([make_task("a")], [False])
        logs[0].end("ended")
        printed = run_status()
        assert all(f"{log.job}: running for" in printed for log in logs[1:])
        assert f"other jobs (1), see --job: {logs[0].job}" in printed
        assert f"{logs[0].job}: ended" in run_status("--job", logs[0].job)


@pytest.fixture
def pauses(monkeypatch):
    """Sets what happens in each pause between two looks."""
    made = []
    monkeypatch.setattr(status.time, "sleep", lambda seconds: made.pop(0)())
    return made


def test_watching_in_a_pipe_prints_at_each_change_until_the_job_is_over(
    run_status, store, job, pauses
):
    def store_one():
        store_logits(store, make_task(NAMES[4]))

    pauses += [lambda: None, store_one, lambda: None, lambda: job.end("ended")]
    printed = run_status("--watch")
    assert printed.count(f"{job.job}: ") == 3
    assert printed.count("2 of 5 tasks done") == 2
    assert pauses == []


def test_watching_on_a_terminal_redraws(run_status, store, job, pauses, monkeypatch):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80, height=60)
    monkeypatch.setattr(status, "console", terminal)
    pauses += [lambda: job.end("ended")]
    run_status("--watch")
    up_a_line = "\x1b[1A"
    assert up_a_line in screen.getvalue()
    assert f"{job.job}: ended" in screen.getvalue()
