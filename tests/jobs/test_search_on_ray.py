"""Searches by Ray Tune: they leave their result, also after a kill, and nothing else."""

import json
import os
import signal
import sys
import time
from contextlib import nullcontext

import psutil
import pytest
import ray
from ray import tune

from jobs.log.task_log import keep_log
from jobs.log.watcher import Watcher
from logit_store import LogitStore
from students.search_space import make_found_recipe

SEARCH = ("--split", "25", "--recipe", "demo_isotropic", "--no-teacher", "--name", "first")


def test_a_search_leaves_its_result_and_is_not_done_again(
    commands, own_cluster, called, monkeypatch, tmp_path
):
    monkeypatch.setattr("jobs.search.connect", lambda **how: nullcontext(own_cluster.workers))
    options = ("--trials", "2", "--epochs", "1", "--no-halving")
    arguments = commands.arguments("search", *SEARCH, *options, store=tmp_path)
    printed = called(*arguments)
    assert "[2/2] " in printed
    assert "--recipes search:first --no-teacher" in printed
    document = json.loads((tmp_path / "search" / "v1" / "first" / "result.json").read_text())
    trials = [trial for trial in document["trials"] if trial["state"] != "over_budget"]
    assert [trial["state"] for trial in trials] == ["done", "done"]
    assert all(len(trial["losses"]) == 1 for trial in trials)
    assert make_found_recipe(document).model == "isotropic"
    assert not list(tmp_path.rglob("*.pt"))
    assert LogitStore(tmp_path).keys() == []
    assert "2 of 2 trials are done already" in called(*arguments)


def test_a_trial_that_hangs_is_killed_after_its_timeout_and_tried_again(
    commands, own_cluster, called, monkeypatch, tmp_path, wait_for
):
    hung = tmp_path / "hung"

    def hang_once(config):
        with keep_log(config["log"]):
            if not hung.exists():
                hung.write_text(str(os.getpid()))
                # The log is begun after two seconds.
                time.sleep(3)
                os.kill(os.getpid(), signal.SIGSTOP)
            tune.report({"epoch": 1, "select_log_loss": 0.5, "select_accuracy": 0.5})

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr("jobs.trials.tune.run_trial", hang_once)
    monkeypatch.setattr("jobs.search.connect", lambda **how: nullcontext(own_cluster.workers))
    options = ("--trials", "1", "--epochs", "1", "--no-halving", "--unit-timeout", "0.1")
    printed = called(*commands.arguments("search", *SEARCH, *options, store=tmp_path))
    assert "stopped after it had reported nothing for" in printed
    assert "[1/1] " in printed
    wait_for(lambda: not psutil.pid_exists(int(hung.read_text())), "the end of the process", 30)


@pytest.mark.slow
@pytest.mark.usefixtures("address")
def test_a_killed_search_goes_on_and_leaves_its_result_and_nothing_else(
    commands, called, tmp_path, wait_for
):
    arguments = commands.arguments(
        "search",
        *SEARCH,
        *("--trials", "4", "--epochs", "2", "--no-halving"),
        store=tmp_path,
    )
    result = tmp_path / "search" / "v1" / "first" / "result.json"

    def states():
        return [trial["state"] for trial in json.loads(result.read_text())["trials"]]

    process = commands.start(*arguments)
    wait_for(lambda: result.exists() and "done" in states(), "the first trial to end", 300)
    process.kill()
    process.communicate()
    done = {t["id"]: t for t in json.loads(result.read_text())["trials"] if t["state"] == "done"}
    n_left = 4 - len(done)
    poor = commands.run(*arguments, "--machine", "aws-m7i-2xlarge", "--budget", "1e-9", code=1)
    assert f"not started: {n_left - 1} of {n_left} trials" in poor
    assert states().count("done") == len(done) + 1
    printed = commands.run(*arguments)
    assert f"{len(done) + 1} of 4 trials are done already" in printed
    assert "--recipes search:first --no-teacher" in printed
    document = json.loads(result.read_text())
    taught = [trial for trial in document["trials"] if trial["state"] != "over_budget"]
    assert [trial["state"] for trial in taught] == ["done"] * 4
    assert all(len(trial["losses"]) == 2 for trial in taught)
    assert [trial for trial in taught if trial["id"] in done] == sorted(
        done.values(), key=lambda trial: trial["select_log_loss"]
    )
    assert make_found_recipe(document).model == "isotropic"
    watcher = Watcher(LogitStore(tmp_path))
    killed, _, last = map(watcher.read_job, watcher.list_jobs())
    assert (killed.driver.search, killed.driver.state) == ("first", "running")
    assert last.count_states() == {"done": 4 - len(done) - 1}
    assert all(task.attempt.epoch == 2 for task in last.tasks)
    assert not list(tmp_path.rglob("*.pt"))
    assert LogitStore(tmp_path).keys() == []
    assert "4 of 4 trials are done already" in called(*arguments)
