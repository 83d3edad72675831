"""What jobs write into the store about themselves, and what is read from it."""

import contextlib
import logging
import os
import subprocess
import threading
import warnings
from dataclasses import replace

import pynvml
import pytest
import torch
from job_logs import fail, make_old, make_task, store_logits, write_clips
from s3_servers import BUCKET, moto

from disk import identify_processes
from jobs.log import gpu_use
from jobs.log.bulletin import LOST_AFTER_S
from jobs.log.files import (
    AttemptRecord,
    DriverRecord,
    PlannedTask,
    encode_document,
    locate_attempts,
    locate_driver,
)
from jobs.log.progress import JobProgress, TaskProgress
from jobs.log.task_log import MAX_CHARACTERS, get_current_log, keep_log, log_line
from jobs.log.watcher import Watcher
from jobs.schedule.job_log import JobLog
from jobs.worker.train import FineTune
from jobs.worker.where import Where
from logit_store import DamagedFile, LogitStore, StoreFull
from logit_store.objects import Objects
from redact import redact_secrets
from terminal.console import UserError


@pytest.fixture
def store(tmp_path):
    made = LogitStore(tmp_path / "store")
    write_clips(made)
    return made


@pytest.fixture
def swift(monkeypatch):
    """News is written at once."""
    monkeypatch.setattr("jobs.log.task_log.FIRST_AFTER_S", 0.01)
    monkeypatch.setattr("jobs.log.bulletin.EVERY_S", 0.01)


def planned(log, *tasks, stored=False):
    log.plan(tasks, [stored] * len(tasks))
    return tasks


def states(store, job):
    return {each.planned.name: each.state for each in Watcher(store).read_job(job).tasks}


def all_bytes(store):
    files = [*store.files.find("jobs/v1/*/*"), *store.files.find("units/v1/*/*/*")]
    return b"\n".join(store.files.get(entry.name) for entry in files)


def test_tasks_wait_until_a_worker_has_them_and_are_done_when_their_logits_are_stored(store):
    with JobLog(store) as log:
        a, b = planned(log, make_task("a"), make_task("b"))
        assert states(store, log.job) == {"a": "waiting", "b": "waiting"}
        store_logits(store, a)
        assert states(store, log.job) == {"a": "done", "b": "waiting"}
        fail(log, b, ValueError("no"))
        assert states(store, log.job) == {"a": "done", "b": "failed"}
        store_logits(store, b)
        assert states(store, log.job) == {"a": "done", "b": "done"}


def test_a_task_that_makes_no_logits_is_done_when_its_worker_says_so(store):
    with JobLog(store) as log:
        (chosen,) = planned(log, make_task("ensemble", makes_logits=False))
        with keep_log(log.find_task_log(chosen)):
            pass
        assert states(store, log.job) == {"ensemble": "done"}


def test_a_task_that_makes_no_logits_is_done_by_its_drivers_word_too(store):
    with JobLog(store) as log:
        (chosen,) = planned(log, make_task("trial", makes_logits=False))
        with contextlib.suppress(ValueError), keep_log(log.find_task_log(chosen)):
            raise ValueError("the log loss is nan")
        assert states(store, log.job) == {"trial": "failed"}
        log.note_end(chosen)
    assert states(store, log.job) == {"trial": "done"}


def test_a_task_that_is_stopped_has_not_failed_and_ends_by_its_drivers_word(store):
    with JobLog(store) as log:
        (trial,) = planned(log, make_task("trial", makes_logits=False))
        with contextlib.suppress(SystemExit), keep_log(log.find_task_log(trial)):
            raise SystemExit(0)
        assert states(store, log.job) == {"trial": "running"}
        log.note_end(trial)
    assert states(store, log.job) == {"trial": "done"}


def test_a_search_that_another_process_carries_out_is_refused(store):
    def set_driver(log, **changes):
        driver = replace(Watcher(store).read_job(log.job).driver, **changes)
        store.objects.write(locate_driver(log.job), encode_document(driver))

    def refuse(search):
        Watcher(store).refuse_second(search)

    with JobLog(store, search="first") as log:
        planned(log, make_task("trial", makes_logits=False))
        refuse("first")  # this process asks about itself
        for alive in ({"pid": os.getppid()}, {"pid": 1 << 22, "processes": "of a container"}):
            set_driver(log, **alive)
            with pytest.raises(UserError, match="search first is being carried out by process"):
                refuse("first")
            refuse("second")
        ended = subprocess.Popen(["true"])
        ended.wait()
        set_driver(log, pid=ended.pid, processes=identify_processes())
        refuse("first")
        set_driver(log, processes="of a container")
        make_old(store, locate_driver(log.job), LOST_AFTER_S + 5)
        refuse("first")
    refuse("first")


@pytest.mark.usefixtures("swift")
def test_a_running_task_logs_how_far_it_is(store, wait_for):
    with JobLog(store) as log:
        (a,) = planned(log, make_task("a"))
        watcher = Watcher(store)
        with keep_log(log.find_task_log(a)):
            log_line("epoch 3", epoch=3, max_epochs=8, clips_per_s=120.0, time_left_s=60.0)
            # A sign of life may be written before the epoch is noted.
            wait_for(lambda: watcher.read_job(log.job).clips_per_s, "a sign of life")
            found, (attempt,) = watcher.read_job(log.job), watcher.find_attempts(log.job, "a")
    (running,) = found.tasks
    assert (running.attempt.epoch, running.attempt.max_epochs) == (3, 8)
    assert attempt.lines == ["epoch 3"]
    assert running.attempt.since <= running.attempt.reported <= running.attempt.told
    assert found.clips_per_s == 120
    assert 0 < found.estimate_time_left_s() <= 60


def test_a_worker_logs_an_error_with_its_traceback_and_the_driver_its_kind(store):
    with JobLog(store) as log:
        (a,) = planned(log, make_task("a"))
        fail(log, a, ValueError("batch size 0, expected 1 or more"))
    (failed,) = Watcher(store).read_job(log.job).tasks
    assert failed.error == "ValueError: batch size 0, expected 1 or more"
    (attempt,) = Watcher(store).find_attempts(log.job, "a")
    assert "in fail" in attempt.lines[-1]
    assert attempt.lines[-1].startswith("Traceback")
    assert Watcher(store).read_job(log.job).driver.ended_badly == {"1": "ValueError"}


def test_a_task_that_died_with_its_node_is_failed_by_the_drivers_word(store):
    with JobLog(store) as log:
        (a,) = planned(log, make_task("a"))
        log.note_end(a, "WorkerCrashedError: the worker died")
    (failed,) = Watcher(store).read_job(log.job).tasks
    assert (failed.state, failed.error) == ("failed", "WorkerCrashedError: the worker died")


def test_warnings_are_kept_and_still_printed(store, capsys, monkeypatch):
    # As in a worker of Ray, where no other handler is set.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with JobLog(store) as log:
        (a,) = planned(log, make_task("a", makes_logits=False))
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            with keep_log(log.find_task_log(a)):
                warnings.warn("half precision is not to be had", UserWarning, stacklevel=1)
                logging.getLogger("somebody").warning("it is %d o'clock", 13)
    (attempt,) = Watcher(store).find_attempts(log.job, "a")
    assert "half precision is not to be had" in attempt.lines[0]
    assert attempt.lines[1] == "warning: it is 13 o'clock"
    printed = capsys.readouterr().err
    assert "half precision is not to be had" in printed
    assert "it is 13 o'clock" in printed
    assert logging.getLogger().handlers == []


def test_the_newest_of_many_lines_are_kept(store):
    with JobLog(store) as log:
        (a,) = planned(log, make_task("a", makes_logits=False))
        with keep_log(log.find_task_log(a)):
            for number in range(800):
                log_line(f"{number:04d} " + 95 * "x")
    (attempt,) = Watcher(store).find_attempts(log.job, "a")
    assert attempt.lines[-1].startswith("0799 ")
    assert attempt.n_dropped + len(attempt.lines) == 800
    assert MAX_CHARACTERS - 100 < sum(map(len, attempt.lines)) <= MAX_CHARACTERS


def test_no_secret_gets_into_what_is_written(store, monkeypatch):
    secrets = {
        "AWS_SECRET_ACCESS_KEY": 'wJalr/XUtn"FEMI',
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SESSION_TOKEN": "session-of-a-role",
        "RAY_AUTH_TOKEN": "ray-token-0123",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    signed = "https://bucket/x.pt?X-Amz-Signature=5d672d79c15b13162d9279b0855cfba6"
    options = ["--weights", signed, "--root", "https://anna:pass-word@host/x"]
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py", *options])
    with JobLog(store) as log:
        a, b = planned(log, make_task("a"), make_task("b"))
        fail(log, a, OSError(f"refused: {secrets}"))
        log.note_end(b, f"RaySystemError: {secrets['RAY_AUTH_TOKEN']}")
    written = all_bytes(store).decode()
    assert "jobs/teachers.py --weights" in written
    assert "refused: " in written
    hidden = [*secrets.values(), r"wJalr/XUtn\"FEMI", "5d672d79c15b1316", "anna", "pass-word"]
    assert [each for each in hidden if each in written] == []


def test_a_place_where_a_secret_lies_is_none(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/anna/token")
    assert redact_secrets("no file /home/anna/token") == "no file /home/anna/token"


def test_a_command_that_finds_everything_leaves_no_trace(store):
    a = make_task("a")
    store_logits(store, a)
    with JobLog(store) as log:
        planned(log, a, stored=True)
    assert all_bytes(store) == b""
    with pytest.raises(UserError, match="has no log of a job"):
        Watcher(store).list_jobs()


def test_what_was_stored_before_is_in_the_plan_of_a_job_that_has_more_to_do(store):
    a = make_task("a")
    store_logits(store, a)
    with JobLog(store) as log:
        planned(log, a, stored=True)
        planned(log, make_task("b"))
        planned(log, make_task("c"))
    found = Watcher(store).read_job(log.job).tasks
    assert [(each.planned.name, each.planned.stored) for each in found] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]


def test_tasks_of_the_same_name_have_logs_of_their_own(store):
    a = make_task("a")
    other = replace(a, keys=make_task("b").keys)
    with JobLog(store) as log:
        planned(log, a, other)
        fail(log, other, ValueError("no"))
    found = Watcher(store).read_job(log.job).tasks
    assert [each.state for each in found] == ["waiting", "failed"]


def test_the_last_attempt_counts_and_all_are_kept(store):
    with JobLog(store) as log:
        (a,) = planned(log, make_task("a"))
        fail(log, a, ValueError("first"))
        fail(log, a, ValueError("second"))
    (found,) = Watcher(store).read_job(log.job).tasks
    assert found.error == "ValueError: second"
    errors = [attempt.error for attempt in Watcher(store).find_attempts(log.job, "a")]
    assert errors == ["ValueError: first", "ValueError: second"]


def test_a_worker_that_does_a_part_of_a_task_writes_into_its_log(store):
    with JobLog(store) as log:
        (a,) = planned(log, make_task("a", makes_logits=False))
        with keep_log(log.find_task_log(a)):
            part = get_current_log()
            thread = threading.Thread(target=_tell_as, args=(part, "epoch 1 of a part"))
            thread.start()
            thread.join()
    # Both may begin in the same millisecond, so their order is open.
    lines = [attempt.lines for attempt in Watcher(store).find_attempts(log.job, "a")]
    assert sorted(lines) == [[], ["epoch 1 of a part"]]
    assert not part.whole


def _tell_as(unit, line):
    with keep_log(unit):
        log_line(line)


def test_nothing_is_written_where_no_log_is_kept():
    with keep_log(None):
        log_line("to nobody")
        assert get_current_log() is None


def test_a_store_that_takes_no_log_does_not_stop_the_work(store, monkeypatch, caplog):
    with JobLog(store) as log:
        (a,) = planned(log, make_task("a", makes_logits=False))

        def full(self, name, data):
            raise StoreFull(name, len(data))

        monkeypatch.setattr(Objects, "write", full)
        with keep_log(log.find_task_log(a)):
            done = True
    assert done
    said = [r.getMessage() for r in caplog.records if "units/v1" in r.getMessage()]
    assert len(said) == 1
    assert "no space left" in said[0]


@pytest.mark.usefixtures("swift")
def test_a_silent_worker_is_lost_and_a_silent_driver_too(store, wait_for):
    old = LOST_AFTER_S + 5
    with JobLog(store) as log:
        (a,) = planned(log, make_task("a"))
        with keep_log(log.find_task_log(a)):
            wait_for(lambda: store.files.find(locate_attempts(log.job)), "a sign of life")
            # The thread writes nothing more: there is no news, and 30 s are not over.
            make_old(store, locate_attempts(log.job), old)
            (lost,) = Watcher(store).read_job(log.job).tasks
            assert (lost.state, lost.silent_s > LOST_AFTER_S) == ("lost?", True)
            make_old(store, locate_driver(log.job), old)
            assert Watcher(store).read_job(log.job).is_lost


def test_what_ran_when_its_driver_was_interrupted_has_stopped(store):
    log = JobLog(store)

    def interrupted():
        with log:
            (a,) = planned(log, make_task("a"))
            recorded = AttemptRecord(unit="a", node="n", pid=1, since=0.0, told=0.0)
            _write_attempt(store, log, a, recorded)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    found = Watcher(store).read_job(log.job)
    assert (found.driver.state, found.is_over) == ("interrupted", True)
    assert states(store, log.job) == {"a": "stopped"}


def _write_attempt(store, log, task, attempt):
    from jobs.log.files import locate_attempt

    name = locate_attempt(log.job, log.find_task_log(task).number, f"{attempt.since:014.0f}")
    store.objects.write(name, encode_document(attempt))


def test_only_those_of_2000_tasks_that_are_not_done_are_read_and_each_once(store, monkeypatch):
    with JobLog(store) as log:
        tasks = planned(log, *(make_task(f"u{number}") for number in range(2000)))
        for task in (tasks[0], tasks[7]):
            recorded = AttemptRecord(unit=task.name, node="n", pid=1, since=1.0, told=1.0)
            _write_attempt(store, log, task, recorded)
        store_logits(store, tasks[0])
        names = []
        read = store.files.get
        monkeypatch.setattr(store.files, "get", lambda name: names.append(name) or read(name))
        watcher = Watcher(store)
        assert watcher.read_job(log.job).count_states() == {
            "done": 1,
            "running": 1,
            "waiting": 1998,
        }
        assert len([name for name in names if name.startswith("units/")]) == 1
        names.clear()
        assert watcher.read_job(log.job).count_states() == {
            "done": 1,
            "running": 1,
            "waiting": 1998,
        }
        assert [name for name in names if not name.endswith("driver.json")] == []


def test_the_tasks_of_a_job_are_counted_without_the_lines_of_their_logs(store):
    line = 'epoch 1, "lines": [1, 2]'
    with JobLog(store) as log:
        (a,) = planned(log, make_task("a"))
        recorded = AttemptRecord(unit="a", node="n", pid=1, since=1.0, told=1.0, error=f", {line}")
        recorded.state, recorded.lines = "failed", [line, line]
        _write_attempt(store, log, a, recorded)
        watcher = Watcher(store)
        (counted,) = watcher.read_job(log.job).tasks
        assert counted.attempt == replace(recorded, lines=[])
        assert watcher.find_attempts(log.job, "a") == [recorded]


def test_an_unknown_job_is_named_with_those_that_exist(store):
    with JobLog(store) as log:
        planned(log, make_task("a"))
    with pytest.raises(UserError, match=f"no such job; there are: {log.job}"):
        Watcher(store).read_job("20000101T000000Z-teachers-0000")


def test_a_log_on_s3_is_as_one_on_a_disk(monkeypatch):
    with moto() as server:
        server.name_in(monkeypatch)
        bucket = LogitStore(f"s3://{BUCKET}/runs")
        with JobLog(bucket) as log:
            tasks = planned(log, *(make_task(f"u{number}") for number in range(5)))
            for task in tasks[:3]:
                fail(log, task, ValueError("no"))
        found = Watcher(bucket).read_job(log.job)
    assert found.count_states() == {"failed": 3, "waiting": 2}
    assert {each.error for each in found.find_tasks("failed")} == {"ValueError: no"}


def test_a_damaged_log_is_named(store):
    with JobLog(store) as log:
        planned(log, make_task("a"))
    store.objects.write(locate_driver(log.job), b"[]")
    with pytest.raises(DamagedFile, match=r"driver\.json"):
        Watcher(store).read_job(log.job)


def progress_of(*found, took_s=100.0):
    driver = DriverRecord(command="", commit=None, host="", pid=1, since=0.0, told=took_s)
    return JobProgress("j", driver, 0.0, list(found))


def one(state, left_s=None, *, stored=False, age_s=30.0, **figures):
    planned_unit = PlannedTask(number=1, name="a", stored=stored)
    tried = AttemptRecord(
        unit="a", node="n", pid=1, since=0.0, told=age_s, time_left_s=left_s, **figures
    )
    return TaskProgress(planned_unit, state, tried if state == "running" else None)


@pytest.mark.parametrize(
    ("found", "left_s"),
    [
        ([one("running")], None),
        ([one("waiting")], None),
        # Nothing waits, so the slowest task decides.
        ([one("running", 50.0), one("running", 70.0)], 70.0),
        # Four were done in 100 s, so the two that are left take 25 s each.
        ([one("done")] * 4 + [one("running", 10.0), one("waiting")], 50.0),
        # What was stored before says nothing about this job's speed.
        ([one("done", stored=True)] * 4 + [one("running", 10.0)], 10.0),
        # None is done: those that run take 30 + 10 s, and two wait for one place.
        ([one("running", 10.0), one("waiting"), one("waiting")], 90.0),
    ],
)
def test_time_left_follows_from_the_tasks_so_far(found, left_s):
    assert progress_of(*found).estimate_time_left_s() == left_s


def test_tasks_that_share_a_gpu_count_it_once():
    use = {"gpu_percent": 80.0, "gpu_memory_bytes": 40, "gpu_total_bytes": 140}
    found = [
        one("running", gpu="H200 a", clips_per_s=100.0, **use),
        one("running", gpu="H200 a", clips_per_s=50.0, **use),
        one("running", gpu="H200 b", **use | {"gpu_percent": None}),
    ]
    (node,) = progress_of(*found).measure_nodes()
    assert (node.n_tasks, node.n_gpus, node.gpu_percent) == (3, 2, 80)
    assert (node.gpu_memory_bytes, node.gpu_total_bytes) == (80, 280)
    assert node.clips_per_s == 150


class _Properties:
    name, uuid = "NVIDIA H200", "0123-4567"


@pytest.fixture
def gpu(monkeypatch):
    """The part of a GPU's interface that measuring its use needs."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: _Properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 140))


@pytest.mark.usefixtures("gpu")
def test_a_gpus_memory_is_shown_where_no_driver_says_how_busy_it_is(monkeypatch):
    gpu_use._start_nvml.cache_clear()

    def missing():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    use = gpu_use.measure_gpu_use()
    assert (use.gpu, use.percent) == ("NVIDIA H200 0123-4567", None)
    assert (use.memory_bytes, use.total_bytes) == (40, 140)


@pytest.mark.usefixtures("gpu", "swift")
def test_the_use_of_the_gpu_is_the_mean_of_what_was_seen(store, monkeypatch, wait_for):
    seen = [100.0, 50.0]
    monkeypatch.setattr(gpu_use, "_measure_percent", lambda uuid: seen.pop() if seen else None)
    with JobLog(store) as log:
        (a,) = planned(log, make_task("a", makes_logits=False))
        with keep_log(log.find_task_log(a)):
            wait_for(lambda: not seen, "two looks at the GPU")
    (attempt,) = Watcher(store).find_attempts(log.job, "a")
    assert (attempt.gpu, attempt.gpu_percent) == ("NVIDIA H200 0123-4567", 75)


def test_a_process_that_computes_on_the_cpu_uses_no_gpu():
    assert gpu_use.measure_gpu_use() is None


def test_a_teachers_epochs_are_in_its_log(store, commands, monkeypatch):
    from audio.corpora import tau
    from teachers import RECIPES, TeacherRun

    monkeypatch.setenv("TUTTI_CACHE", commands.environment["TUTTI_CACHE"])
    recipe = RECIPES["demo_cpr"]
    short = replace(recipe, training=replace(recipe.training, max_steps=2, max_epochs=2))
    where = Where("tau", str(commands.corpus), str(store.address) + "-taught")
    LogitStore(where.store).write_clips("tau", tau.read(commands.corpus).clips_table())
    with JobLog(LogitStore(where.store)) as log:
        (task,) = planned(log, make_task("demo_cpr split 25 seed 0", makes_logits=False))
        run = TeacherRun(recipe=short, split=25)
        work = FineTune(teacher=run, where=where, responses=None)
        with keep_log(log.find_task_log(task)):
            work.run_on_device(torch.device("cpu"))
    (attempt,) = Watcher(LogitStore(where.store)).find_attempts(log.job, "demo_cpr*")
    assert attempt.lines[0].startswith("epoch 1/1, loss ")
    assert (attempt.state, attempt.max_epochs, attempt.pid) == ("done", 1, os.getpid())
    assert attempt.clips_per_s > 0
