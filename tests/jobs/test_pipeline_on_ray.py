"""Whole jobs on Ray: on their own cluster, on a running one, submitted, and interrupted."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from s3_servers import BUCKET, weed

from jobs.log.watcher import Watcher
from logit_store import LogitStore

TEACHERS = ("--recipes", "demo_cpr", "--splits", "25", "--max-steps", "2")
LONG = ("--recipes", "demo_cpr", "--splits", "100", "--epochs", "4")


def find_ray_processes(folder, *names):
    """Return the processes, with any of these names, of Ray clusters whose files are in a folder."""
    return {
        process.pid
        for process in psutil.process_iter(["name", "cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or [])
        and (not names or process.info["name"] in names)
    }


def watch_command_lines(seen, ended):
    """Collect what `ps` shows until the end."""
    while not ended.wait(1):
        for process in psutil.process_iter(["cmdline"]):
            seen.add(" ".join(process.info["cmdline"] or []))


@pytest.fixture
def command_lines():
    """The command lines of all processes that run during the test, and an event that ends this."""
    seen, ended = set(), threading.Event()
    watcher = threading.Thread(target=watch_command_lines, args=(seen, ended), daemon=True)
    watcher.start()
    yield seen
    ended.set()
    watcher.join()


@pytest.mark.usefixtures("compiled")
def test_the_pipeline_runs_on_a_cluster_of_its_own_with_its_store_in_a_bucket(
    alone, command_lines, tmp_path, monkeypatch
):
    # A cluster that was killed leaves the address behind at which nobody answers any more.
    record = alone.ray_folder / "ray" / "ray_current_cluster"
    record.parent.mkdir()
    record.write_text("127.0.0.1:1")
    job = Path(__file__).parents[2] / "jobs" / "pipeline.py"
    options = ("--demo", "--recipes", "demo_cpr", "--student-seeds", "0", "--max-steps", "2")
    with weed(tmp_path) as server:
        server.name_in(monkeypatch)
        alone.environment |= server.variables()
        address = f"s3://{BUCKET}/whole/way"
        arguments = alone.arguments("pipeline", *options, store=address)[1:]
        printed = alone.run(job, *arguments, cwd=tmp_path)
        store = LogitStore(address)
        (key,) = store.keys("tau", 25, kind="teacher")
        assert store.ensembles.read_weights("tau", 25, "stepwise") == {key: 1}
        assert len(store.keys("tau", 25, kind="student")) == 3
        written = [store.files.get(entry.name) for entry in store.files.find_all()]
    assert "[5/5] " in printed
    assert "gain of student distilled, pool, split 25: " in printed
    assert any(str(alone.ray_folder) in line for line in command_lines)
    assert not find_ray_processes(alone.ray_folder)
    # The secret key is nowhere in what was printed or written, nor in what `ps` shows.
    assert any(b"pipeline.py" in content for content in written)  # the job's log is among them
    assert any("jobs/pipeline.py" in line for line in command_lines)
    texts = (content.decode(errors="replace") for content in written)
    for place in (printed, *command_lines, *texts):
        assert server.secret not in place


CONNECT = """
from jobs.schedule.cluster import connect
from terminal.console import UserError
try:
    with connect():
        pass
except UserError as error:
    print(error)
"""


def test_a_folder_too_long_for_rays_sockets_is_one_clear_error(alone, tmp_path):
    long = tmp_path / ("x" * 80)
    long.mkdir()
    printed = alone.run("-c", CONNECT, RAY_TMPDIR=str(long))
    assert "set RAY_TMPDIR to a short folder" in printed
    assert printed.count("\n") == 1
    assert not find_ray_processes(long)


def check_logits(first, second):
    keys = first.keys("tau")
    assert second.keys("tau") == keys
    np.testing.assert_array_equal(first.read(keys), second.read(keys))


def find_worker(folder, wait_for):
    """Return the worker process that runs the task of LONG in a cluster in a folder, once there is one."""

    def find():
        raylets = find_ray_processes(folder, "raylet")
        for worker in psutil.process_iter(["ppid", "cmdline"]):
            title = " ".join(worker.info["cmdline"] or [])
            if worker.info["ppid"] in raylets and title.startswith("ray::demo_cpr split 100"):
                return worker
        return None

    return wait_for(find, "a worker with the task's name")


@pytest.mark.usefixtures("address")
def test_after_a_killed_driver_the_same_command_goes_on_and_a_killed_worker_is_replaced(
    commands, called, tmp_path, wait_for
):
    called(*commands.arguments("teachers", *LONG, store=tmp_path / "undisturbed"))
    folder = tmp_path / "disturbed"

    def written():
        checkpoints = folder.glob("teachers/v1/*/checkpoint.pt")
        return max((each.stat().st_mtime_ns for each in checkpoints), default=0)

    clusters = find_ray_processes(commands.ray_folder, "raylet")
    process = commands.start(*commands.arguments("teachers", *LONG, store=folder))
    left = wait_for(written, "a checkpoint")
    worker = find_worker(commands.ray_folder, wait_for)
    process.kill()
    process.communicate()
    wait_for(lambda: not worker.is_running(), "the worker to follow its driver")
    assert LogitStore(folder).keys("tau") == []
    process = commands.start(*commands.arguments("teachers", *LONG, store=folder))
    wait_for(lambda: written() > left, "a checkpoint of the second run")
    find_worker(commands.ray_folder, wait_for).kill()
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    check_logits(LogitStore(tmp_path / "undisturbed"), LogitStore(folder))
    # All of it ran on the cluster that was there.
    assert find_ray_processes(commands.ray_folder, "raylet") == clusters


def stop(commands, store, number, wait_for):
    """Stop a driver, and what it has started, in the middle of a run; return its code and words."""
    process = commands.start(*commands.arguments("teachers", *LONG, store=store))
    wait_for(lambda: list(store.glob("teachers/v1/*/checkpoint.pt")), "a checkpoint")
    os.killpg(process.pid, number)
    printed, _ = process.communicate(timeout=300)
    watcher = Watcher(LogitStore(store))
    (job,) = map(watcher.read_job, watcher.list_jobs())
    assert job.driver.state == "interrupted"
    assert not job.find_tasks("failed", "running", "waiting")
    assert "Traceback" not in printed
    return process.returncode, printed


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "stopped by SIGTERM")],
)
def test_a_driver_that_is_stopped_says_how_to_go_on(
    commands, tmp_path, wait_for, number, code, words
):
    returned, printed = stop(commands, tmp_path, number, wait_for)
    assert returned == code, printed
    assert f"{words}: the same command continues where this one stopped" in printed


@pytest.mark.slow
def test_a_driver_that_is_stopped_together_with_its_own_cluster_ends_alike(
    alone, tmp_path, wait_for
):
    store = tmp_path / "store"
    returned, printed = stop(alone, store, signal.SIGTERM, wait_for)
    assert returned == 143, printed
    wait_for(lambda: not find_ray_processes(alone.ray_folder), "the cluster to end", 60)


def test_a_submitted_job_runs_with_its_working_folder_and_shows_its_progress(
    commands, address, tmp_path
):
    job = commands.arguments("teachers", *TEACHERS, store=tmp_path)
    printed = submit(commands, job, working_dir=True)
    assert "[1/1] demo_cpr split 25 seed 0: done in" in printed
    assert len(LogitStore(tmp_path).keys("tau", 25)) == 1
    listed = commands.run("-m", "logit_store", "ls", "--store", tmp_path)
    assert "demo_cpr-" in listed


def test_a_job_submitted_without_a_working_folder_runs_where_ray_was_started(
    commands, address, tmp_path
):
    job = commands.arguments("teachers", *TEACHERS, store=tmp_path)
    submit(commands, job, working_dir=False)
    assert len(LogitStore(tmp_path).keys("tau", 25)) == 1


def test_a_submitted_job_refuses_a_store_that_would_be_thrown_away(commands, address):
    job = commands.arguments("teachers", *TEACHERS, store="runs/x")
    printed = submit(commands, job, working_dir=True, code=1)
    assert "give a folder that stays, as an absolute path" in printed


def submit(commands, job, *, working_dir, code=0):
    """Submit a job through the client of `ray job submit`, and wait for its end."""
    script = Path(__file__).parent / "submit.py"
    process = subprocess.run(
        [sys.executable, script, json.dumps({"job": job, "working_dir": working_dir})],
        env=commands.environment | commands.cluster,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == code, process.stdout + process.stderr
    return process.stdout
