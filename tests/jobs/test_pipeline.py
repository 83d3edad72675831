import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from logit_store import LogitStore

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("address")]
TEACHERS = ("--recipes", "demo_cpr", "--splits", "25", "--epochs", "2")
LONG = ("--recipes", "demo_cpr", "--splits", "100", "--epochs", "4")


@pytest.fixture(scope="module")
def whole(commands, address, tmp_path_factory):
    """A store with the logits of an uninterrupted run of LONG."""
    store = tmp_path_factory.mktemp("whole")
    commands.job("teachers", *LONG, store=store)
    return LogitStore(store)


def same_logits(first, second):
    keys = first.keys("tau")
    assert second.keys("tau") == keys
    np.testing.assert_array_equal(first.read(keys), second.read(keys))


def worker_of_task(wait_for, but_not=None):
    """The worker process that runs the task of LONG, once there is one."""

    def find():
        for worker in psutil.process_iter(["name", "cmdline"]):
            title = " ".join(worker.info["cmdline"] or [])
            if title.startswith("ray::demo_cpr split 100") and worker.pid != but_not:
                return worker
        return None

    return wait_for(find, "a worker with the task's name")


def test_a_job_starts_a_cluster_of_its_own_from_any_folder_and_leaves_nothing_running(
    alone, tmp_path
):
    before = ray_processes()
    # What a cluster that was killed leaves behind: an address where nobody answers.
    record = alone.ray_folder / "ray" / "ray_current_cluster"
    record.parent.mkdir()
    record.write_text("127.0.0.1:1")
    job = Path(__file__).parents[2] / "jobs" / "teachers.py"
    command = (job, *alone.arguments("teachers", *TEACHERS, store=tmp_path / "store")[1:])
    printed = alone.run(*command, cwd=tmp_path)
    assert "[1/1] demo_cpr split 25 seed 0: done in" in printed
    assert "next: python jobs/ensemble.py" in printed
    assert len(LogitStore(tmp_path / "store").keys("tau", 25, kind="teacher")) == 1
    assert ray_processes() <= before
    printed = alone.run(*command, cwd=tmp_path)
    assert "1 of 1 runs are in the store already" in printed


def ray_processes():
    """Processes of any Ray cluster on this machine."""
    names = {"raylet", "gcs_server"}
    return {p.pid for p in psutil.process_iter(["name"]) if p.info["name"] in names}


def test_after_a_killed_driver_the_same_command_goes_on_and_a_killed_worker_is_replaced(
    commands, whole, tmp_path, wait_for
):
    def written():
        checkpoints = tmp_path.glob("teachers/v1/*/checkpoint.pt")
        return max((each.stat().st_mtime_ns for each in checkpoints), default=0)

    clusters = ray_processes()
    process = commands.start(*commands.arguments("teachers", *LONG, store=tmp_path))
    left = wait_for(written, "a checkpoint")
    worker = worker_of_task(wait_for)
    process.kill()
    process.communicate()
    wait_for(lambda: not worker.is_running(), "the worker to follow its driver")
    assert LogitStore(tmp_path).keys("tau") == []
    process = commands.start(*commands.arguments("teachers", *LONG, store=tmp_path))
    wait_for(lambda: written() > left, "a checkpoint of the second run")
    worker_of_task(wait_for).kill()
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    same_logits(whole, LogitStore(tmp_path))
    # All of it on the cluster that runs.
    assert ray_processes() == clusters


def test_control_c_says_how_to_go_on(commands, tmp_path, wait_for):
    process = commands.start(*commands.arguments("teachers", *LONG, store=tmp_path))
    wait_for(lambda: list(tmp_path.glob("teachers/v1/*/checkpoint.pt")), "a checkpoint")
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 130, printed
    assert "interrupted: the same command goes on where this one stopped" in printed


@pytest.mark.usefixtures("compiled")
def test_the_pipeline_goes_all_the_way_and_what_is_stored_is_not_done_again(commands, tmp_path):
    options = ("--demo", "--recipes", "demo_cpr", "--seeds", "0", "1", "--student-seeds", "0")
    options += ("--epochs", "3")
    printed = commands.job("pipeline", *options, store=tmp_path)
    for system in ("best: demo_cpr", "ensemble", "student distilled"):
        assert system in printed
    assert "distillation, split 100: " in printed
    store = LogitStore(tmp_path)
    assert len(store.keys("tau", 25, kind="teacher")) == 2
    assert len(store.keys("tau", 100, kind="student")) == 2
    (name,) = store.ensembles("tau", 100)
    document = store.read_ensemble("tau", 100, name)
    assert document["losses"] == sorted(document["losses"], reverse=True)
    assert sum(member["weight"] for member in document["members"]) == pytest.approx(1)
    again = commands.job("pipeline", *options, store=tmp_path)
    assert "5 of 5 runs are in the store already" in again
    assert (
        again[again.index("on the test clips") :] == printed[printed.index("on the test clips") :]
    )


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
    """Submit as people do, through the same client as `ray job submit`, and wait for the end."""
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
