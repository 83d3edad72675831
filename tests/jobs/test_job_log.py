"""What jobs leave in the store about themselves, and what is read out of it."""

import contextlib
import logging
import os
import socket
import subprocess
import threading
import warnings
from dataclasses import replace

import pytest
import torch
from job_logs import fail, make_old, store_logits, unit, write_clips
from s3_servers import BUCKET, moto

from jobs import gpu_use, units
from jobs.bulletin import LOST_AFTER_S
from jobs.command import UserError, Where
from jobs.job_files import Attempt, Driver, PlannedUnit, attempts_pattern, driver_object, encoded
from jobs.job_log import JobLog
from jobs.progress import JobProgress, UnitProgress, Watcher
from jobs.redact import without_secrets
from jobs.unit_log import MAX_CHARACTERS, current_unit, logged, tell
from logit_store import DamagedFile, LogitStore, StoreFull


@pytest.fixture
def store(tmp_path):
    made = LogitStore(tmp_path / "store")
    write_clips(made)
    return made


@pytest.fixture
def swift(monkeypatch):
    """News is written down at once."""
    monkeypatch.setattr("jobs.unit_log.FIRST_AFTER_S", 0.01)
    monkeypatch.setattr("jobs.bulletin.EVERY_S", 0.01)


def planned(log, *tasks, stored=False):
    log.plan(tasks, [stored] * len(tasks))
    return tasks


def states(store, job):
    return {each.planned.name: each.state for each in Watcher(store).look(job).units}


def all_bytes(store):
    files = [*store.files.entries("jobs/v1/*/*"), *store.files.entries("units/v1/*/*/*")]
    return b"\n".join(store.files.get(entry.name) for entry in files)


def test_units_wait_until_a_worker_has_them_and_are_done_when_their_logits_are_there(store):
    with JobLog(store) as log:
        a, b = planned(log, unit("a"), unit("b"))
        assert states(store, log.job) == {"a": "waiting", "b": "waiting"}
        store_logits(store, a)
        assert states(store, log.job) == {"a": "done", "b": "waiting"}
        fail(log, b, ValueError("no"))
        assert states(store, log.job) == {"a": "done", "b": "failed"}
        store_logits(store, b)
        assert states(store, log.job) == {"a": "done", "b": "done"}


def test_a_unit_that_makes_no_logits_is_done_when_its_worker_says_so(store):
    with JobLog(store) as log:
        (chosen,) = planned(log, unit("ensemble", makes_logits=False))
        with logged(log.unit(chosen)):
            pass
        assert states(store, log.job) == {"ensemble": "done"}


def test_a_unit_that_makes_no_logits_is_done_by_its_drivers_word_too(store):
    with JobLog(store) as log:
        (chosen,) = planned(log, unit("trial", makes_logits=False))
        with contextlib.suppress(ValueError), logged(log.unit(chosen)):
            raise ValueError("the log loss is nan")
        assert states(store, log.job) == {"trial": "failed"}
        log.ended(chosen)
    assert states(store, log.job) == {"trial": "done"}


def test_a_unit_that_is_stopped_has_not_failed(store):
    with JobLog(store) as log:
        (trial,) = planned(log, unit("trial", makes_logits=False))
        with contextlib.suppress(SystemExit), logged(log.unit(trial)):
            raise SystemExit(0)
        assert states(store, log.job) == {"trial": "done"}


def test_a_search_that_another_process_carries_out_is_refused(store):
    def set_driver(log, **changes):
        driver = replace(Watcher(store).look(log.job).driver, **changes)
        store.write_object(driver_object(log.job), encoded(driver))

    def refuse(search):
        Watcher(store).refuse_second(search)

    with JobLog(store, search="first") as log:
        planned(log, unit("trial", makes_logits=False))
        refuse("first")  # this process asks about itself
        for alive in ({"pid": os.getppid()}, {"host": "elsewhere"}):
            set_driver(log, **alive)
            with pytest.raises(UserError, match="search first is being carried out by process"):
                refuse("first")
            refuse("second")
        ended = subprocess.Popen(["true"])
        ended.wait()
        set_driver(log, pid=ended.pid, host=socket.gethostname())
        refuse("first")
        set_driver(log, host="elsewhere")
        make_old(store, driver_object(log.job), LOST_AFTER_S + 5)
        refuse("first")
    refuse("first")


@pytest.mark.usefixtures("swift")
def test_a_unit_that_runs_tells_how_far_it_is(store, wait_for):
    with JobLog(store) as log:
        (a,) = planned(log, unit("a"))
        watcher = Watcher(store)
        with logged(log.unit(a)):
            tell("epoch 3", epoch=3, max_epochs=8, clips_per_s=120.0, time_left_s=60.0)
            wait_for(lambda: watcher.look(log.job).in_state("running"), "a sign of life")
            found = watcher.look(log.job)
    (running,) = found.units
    assert (running.attempt.epoch, running.attempt.max_epochs) == (3, 8)
    assert running.attempt.lines == ["epoch 3"]
    assert found.clips_per_s == 120
    assert 0 < found.time_left_s() <= 60


def test_an_error_is_told_by_its_worker_with_the_traceback_and_by_the_driver_by_its_kind(store):
    with JobLog(store) as log:
        (a,) = planned(log, unit("a"))
        fail(log, a, ValueError("batch size 0, expected 1 or more"))
    (failed,) = Watcher(store).look(log.job).units
    assert failed.error == "ValueError: batch size 0, expected 1 or more"
    assert "in fail" in failed.attempt.lines[-1]
    assert failed.attempt.lines[-1].startswith("Traceback")
    assert Watcher(store).look(log.job).driver.ended_badly == {"1": "ValueError"}


def test_a_unit_that_died_with_its_node_is_failed_by_the_drivers_word(store):
    with JobLog(store) as log:
        (a,) = planned(log, unit("a"))
        log.ended(a, "WorkerCrashedError: the worker died")
    (failed,) = Watcher(store).look(log.job).units
    assert (failed.state, failed.error) == ("failed", "WorkerCrashedError: the worker died")


def test_warnings_are_kept_and_still_printed(store, capsys, monkeypatch):
    # As in a worker of Ray: nobody else listens.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with JobLog(store) as log:
        (a,) = planned(log, unit("a", makes_logits=False))
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            with logged(log.unit(a)):
                warnings.warn("half precision is not to be had", UserWarning, stacklevel=1)
                logging.getLogger("somebody").warning("it is %d o'clock", 13)
    (attempt,) = Watcher(store).attempts(log.job, "a")
    assert "half precision is not to be had" in attempt.lines[0]
    assert attempt.lines[1] == "warning: it is 13 o'clock"
    printed = capsys.readouterr().err
    assert "half precision is not to be had" in printed
    assert "it is 13 o'clock" in printed
    assert logging.getLogger().handlers == []


def test_of_many_lines_the_newest_are_kept(store):
    with JobLog(store) as log:
        (a,) = planned(log, unit("a", makes_logits=False))
        with logged(log.unit(a)):
            for number in range(800):
                tell(f"{number:04d} " + 95 * "x")
    (attempt,) = Watcher(store).attempts(log.job, "a")
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
        a, b = planned(log, unit("a"), unit("b"))
        fail(log, a, OSError(f"refused: {secrets}"))
        log.ended(b, f"RaySystemError: {secrets['RAY_AUTH_TOKEN']}")
    written = all_bytes(store).decode()
    assert "jobs/teachers.py --weights" in written
    assert "refused: " in written
    hidden = [*secrets.values(), r"wJalr/XUtn\"FEMI", "5d672d79c15b1316", "anna", "pass-word"]
    assert [each for each in hidden if each in written] == []


def test_a_place_where_a_secret_lies_is_none(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/anna/token")
    assert without_secrets("no file /home/anna/token") == "no file /home/anna/token"


def test_a_command_that_finds_everything_leaves_no_trace(store):
    a = unit("a")
    store_logits(store, a)
    with JobLog(store) as log:
        planned(log, a, stored=True)
    assert all_bytes(store) == b""
    with pytest.raises(UserError, match="has no log of a job"):
        Watcher(store).jobs()


def test_what_was_stored_before_is_in_the_plan_of_a_job_that_has_more_to_do(store):
    a = unit("a")
    store_logits(store, a)
    with JobLog(store) as log:
        planned(log, a, stored=True)
        planned(log, unit("b"))
        planned(log, unit("c"))
    found = Watcher(store).look(log.job).units
    assert [(each.planned.name, each.planned.stored) for each in found] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]


def test_units_of_the_same_name_have_logs_of_their_own(store):
    a = unit("a")
    other = replace(a, keys=unit("b").keys)
    with JobLog(store) as log:
        planned(log, a, other)
        fail(log, other, ValueError("no"))
    found = Watcher(store).look(log.job).units
    assert [each.state for each in found] == ["waiting", "failed"]


def test_the_last_attempt_counts_and_all_are_kept(store):
    with JobLog(store) as log:
        (a,) = planned(log, unit("a"))
        fail(log, a, ValueError("first"))
        fail(log, a, ValueError("second"))
    (found,) = Watcher(store).look(log.job).units
    assert found.error == "ValueError: second"
    errors = [attempt.error for attempt in Watcher(store).attempts(log.job, "a")]
    assert errors == ["ValueError: first", "ValueError: second"]


def test_a_worker_that_does_a_part_tells_in_the_log_of_the_unit(store):
    with JobLog(store) as log:
        (a,) = planned(log, unit("a", makes_logits=False))
        with logged(log.unit(a)):
            part = current_unit()
            thread = threading.Thread(target=_tell_as, args=(part, "epoch 1 of a part"))
            thread.start()
            thread.join()
    lines = [attempt.lines for attempt in Watcher(store).attempts(log.job, "a")]
    assert lines == [[], ["epoch 1 of a part"]]
    assert not part.whole


def _tell_as(unit, line):
    with logged(unit):
        tell(line)


def test_nothing_is_told_where_no_log_is_kept():
    with logged(None):
        tell("to nobody")
        assert current_unit() is None


def test_a_store_that_takes_no_log_does_not_stop_the_work(store, monkeypatch, caplog):
    with JobLog(store) as log:
        (a,) = planned(log, unit("a", makes_logits=False))

        def full(self, name, data):
            raise StoreFull(name, len(data))

        monkeypatch.setattr(LogitStore, "write_object", full)
        with logged(log.unit(a)):
            done = True
    assert done
    said = [r.getMessage() for r in caplog.records if "units/v1" in r.getMessage()]
    assert len(said) == 1
    assert "no space left" in said[0]


@pytest.mark.usefixtures("swift")
def test_a_silent_worker_is_lost_and_a_silent_driver_too(store, wait_for):
    old = LOST_AFTER_S + 5
    with JobLog(store) as log:
        (a,) = planned(log, unit("a"))
        with logged(log.unit(a)):
            wait_for(lambda: store.files.entries(attempts_pattern(log.job)), "a sign of life")
            # The thread writes no more: there is no news, and 30 s are not over.
            make_old(store, attempts_pattern(log.job), old)
            (lost,) = Watcher(store).look(log.job).units
            assert (lost.state, lost.silent_s > LOST_AFTER_S) == ("lost?", True)
            make_old(store, driver_object(log.job), old)
            assert Watcher(store).look(log.job).is_lost


def test_what_ran_when_its_driver_was_interrupted_is_lost(store):
    log = JobLog(store)

    def interrupted():
        with log:
            (a,) = planned(log, unit("a"))
            recorded = Attempt(unit="a", node="n", pid=1, since=0.0, told=0.0)
            _write_attempt(store, log, a, recorded)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    found = Watcher(store).look(log.job)
    assert (found.driver.state, found.is_over) == ("interrupted", True)
    assert states(store, log.job) == {"a": "lost?"}


def _write_attempt(store, log, task, attempt):
    from jobs.job_files import attempt_object

    name = attempt_object(log.job, log.unit(task).number, f"{attempt.since:014.0f}")
    store.write_object(name, encoded(attempt))


def test_of_2000_units_only_those_that_are_not_done_are_read_and_each_once(store, monkeypatch):
    with JobLog(store) as log:
        tasks = planned(log, *(unit(f"u{number}") for number in range(2000)))
        for task in (tasks[0], tasks[7]):
            recorded = Attempt(unit=task.name, node="n", pid=1, since=1.0, told=1.0)
            _write_attempt(store, log, task, recorded)
        store_logits(store, tasks[0])
        names = []
        read = store.files.get
        monkeypatch.setattr(store.files, "get", lambda name: names.append(name) or read(name))
        watcher = Watcher(store)
        assert watcher.look(log.job).counts() == {"done": 1, "running": 1, "waiting": 1998}
        assert len([name for name in names if name.startswith("units/")]) == 1
        names.clear()
        assert watcher.look(log.job).counts() == {"done": 1, "running": 1, "waiting": 1998}
        assert [name for name in names if not name.endswith("driver.json")] == []


def test_a_job_that_is_not_there_is_named_with_those_that_are(store):
    with JobLog(store) as log:
        planned(log, unit("a"))
    with pytest.raises(UserError, match=f"no such job; there are: {log.job}"):
        Watcher(store).look("20000101T000000Z-teachers-0000")


def test_a_log_on_s3_is_as_one_on_a_disk(monkeypatch):
    with moto() as server:
        server.name_in(monkeypatch)
        bucket = LogitStore(f"s3://{BUCKET}/runs")
        with JobLog(bucket) as log:
            tasks = planned(log, *(unit(f"u{number}") for number in range(5)))
            for task in tasks[:3]:
                fail(log, task, ValueError("no"))
        found = Watcher(bucket).look(log.job)
    assert found.counts() == {"failed": 3, "waiting": 2}
    assert {each.error for each in found.in_state("failed")} == {"ValueError: no"}


def test_a_damaged_log_is_named(store):
    with JobLog(store) as log:
        planned(log, unit("a"))
    store.write_object(driver_object(log.job), b"[]")
    with pytest.raises(DamagedFile, match=r"driver\.json"):
        Watcher(store).look(log.job)


def progress_of(*found, took_s=100.0):
    driver = Driver(command="", commit=None, host="", pid=1, since=0.0, told=took_s)
    return JobProgress("j", driver, 0.0, list(found))


def one(state, left_s=None, *, stored=False, age_s=30.0, **figures):
    planned_unit = PlannedUnit(number=1, name="a", stored=stored)
    tried = Attempt(unit="a", node="n", pid=1, since=0.0, told=age_s, time_left_s=left_s, **figures)
    return UnitProgress(planned_unit, state, tried if state == "running" else None)


@pytest.mark.parametrize(
    ("found", "left_s"),
    [
        ([one("running")], None),
        ([one("waiting")], None),
        # Nothing waits: the slowest says when.
        ([one("running", 50.0), one("running", 70.0)], 70.0),
        # Four done in 100 s: 25 s each, for the two that are left.
        ([one("done")] * 4 + [one("running", 10.0), one("waiting")], 50.0),
        # What was stored before says nothing about how fast this job is.
        ([one("done", stored=True)] * 4 + [one("running", 10.0)], 10.0),
        # None is done: those that run take 30 + 10 s, and two wait for one place.
        ([one("running", 10.0), one("waiting"), one("waiting")], 90.0),
    ],
)
def test_time_left_is_what_the_units_so_far_let_expect(found, left_s):
    assert progress_of(*found).time_left_s() == left_s


def test_units_that_share_a_gpu_count_it_once():
    use = {"gpu_percent": 80.0, "gpu_memory_bytes": 40, "gpu_total_bytes": 140}
    found = [
        one("running", gpu="H200 a", clips_per_s=100.0, **use),
        one("running", gpu="H200 a", clips_per_s=50.0, **use),
        one("running", gpu="H200 b", **use | {"gpu_percent": None}),
    ]
    (node,) = progress_of(*found).nodes()
    assert (node.n_units, node.n_gpus, node.gpu_percent) == (3, 2, 80)
    assert (node.gpu_memory_bytes, node.gpu_total_bytes) == (80, 280)
    assert node.clips_per_s == 150


class _Properties:
    name, uuid = "NVIDIA H200", "0123-4567"


@pytest.fixture
def gpu(monkeypatch):
    """As much of a GPU as is asked for its use."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: _Properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 140))


@pytest.mark.usefixtures("gpu")
def test_a_gpu_tells_its_memory_where_no_driver_tells_how_busy_it_is(monkeypatch):
    gpu_use._start.cache_clear()

    def missing():
        raise gpu_use.pynvml.NVMLError(gpu_use.pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(gpu_use.pynvml, "nvmlInit", missing)
    use = gpu_use.gpu_use()
    assert (use.gpu, use.percent) == ("NVIDIA H200 0123-4567", None)
    assert (use.memory_bytes, use.total_bytes) == (40, 140)


@pytest.mark.usefixtures("gpu", "swift")
def test_the_use_of_the_gpu_is_the_mean_of_what_was_seen(store, monkeypatch, wait_for):
    seen = [100.0, 50.0]
    monkeypatch.setattr(gpu_use, "_percent", lambda uuid: seen.pop() if seen else None)
    with JobLog(store) as log:
        (a,) = planned(log, unit("a", makes_logits=False))
        with logged(log.unit(a)):
            wait_for(lambda: not seen, "two looks at the GPU")
    (attempt,) = Watcher(store).attempts(log.job, "a")
    assert (attempt.gpu, attempt.gpu_percent) == ("NVIDIA H200 0123-4567", 75)


def test_a_process_that_computes_on_the_cpu_uses_no_gpu():
    assert gpu_use.gpu_use() is None


def test_a_teachers_epochs_are_in_its_log(store, commands, monkeypatch):
    from audio.corpora import tau
    from teachers import RECIPES, TeacherRun

    monkeypatch.setenv("TUTTI_CACHE", commands.environment["TUTTI_CACHE"])
    recipe = RECIPES["demo_cpr"]
    short = replace(recipe, training=replace(recipe.training, max_steps=2, max_epochs=2))
    where = Where("tau", str(commands.corpus), str(store.address) + "-taught")
    LogitStore(where.store).write_clips("tau", tau.read(commands.corpus).clips_table())
    with JobLog(LogitStore(where.store)) as log:
        (task,) = planned(log, unit("demo_cpr split 25 seed 0", makes_logits=False))
        run = TeacherRun(recipe=short, split=25)
        with logged(log.unit(task)):
            units.teach_on(torch.device("cpu"), run, where, None, 1)
    (attempt,) = Watcher(LogitStore(where.store)).attempts(log.job, "demo_cpr*")
    assert attempt.lines[0].startswith("epoch 1/1, loss ")
    assert (attempt.state, attempt.max_epochs, attempt.pid) == ("done", 1, os.getpid())
    assert attempt.clips_per_s > 0
