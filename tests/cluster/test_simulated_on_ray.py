"""Nodes that come with work, go without it, and may vanish in between."""

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from corpus_files import write_corpus

from cluster.simulated import WorkerType, start_simulated_cluster
from logit_store import LogitStore

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("tones") / "tau")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def teachers(made, corpus, store, *options):
    """Start the job on a cluster."""
    command = [sys.executable, "jobs/teachers.py", "--corpus", "tau", "--root", corpus]
    return subprocess.Popen(
        [*map(str, command), "--store", str(store), *options],
        cwd=ROOT,
        env=os.environ | made.make_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_nodes_come_with_work_and_go_without(corpus, home):
    workers = {"cpu": WorkerType(most=1), "gpu": WorkerType(most=2, gpus=1)}
    seen = [Counter()]
    with start_simulated_cluster(workers) as made:
        watching = threading.Event()

        def watch():
            while not watching.wait(0.5):
                seen.append(made.count_nodes())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        options = ("--recipes", "demo_cpr", "--splits", "25", "100", "--max-steps", "2")
        job = teachers(made, corpus, home / "store", *options, "--gpus-per-run", "1")
        printed, _ = job.communicate(timeout=540)
        assert job.returncode == 0, printed
        deadline = time.monotonic() + 120
        while made.count_nodes() and time.monotonic() < deadline:
            time.sleep(0.5)
        watching.set()
        watcher.join()
        assert not made.count_nodes()
    assert not seen[0]
    # Both runs reserve a GPU; nothing needs a node without one.
    assert max(nodes["gpu"] for nodes in seen) == 2
    assert max(nodes["cpu"] for nodes in seen) == 0
    assert len(LogitStore(home / "store").keys("tau")) == 2


SEEDS = tuple(str(seed) for seed in range(12))
RUNS = ("--recipes", "demo_cpr", "--splits", "25", "--epochs", "6", "--seeds", *SEEDS)


@pytest.mark.chaos
def test_twelve_runs_end_once_each_although_nodes_vanish(corpus, home):
    chaos, killed = random.Random(0), []
    with start_simulated_cluster({"cpu": WorkerType(most=2)}, idle_minutes=1) as made:
        job = teachers(made, corpus, home / "store", *RUNS)
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(job.stdout), daemon=True)
        reader.start()
        while job.poll() is None:
            time.sleep(chaos.uniform(5, 15))
            learning = find_learning_nodes(made, home / "store")
            if learning and len(killed) < 6:
                killed.append(chaos.choice(learning))
                made.kill_node(killed[-1])
        reader.join()
        assert job.returncode == 0, "".join(lines)
    assert killed
    assert len(LogitStore(home / "store").keys("tau")) == len(SEEDS)
    ended = Counter(re.findall(r"\] demo_cpr split 25 seed (\d+): done", "".join(lines)))
    assert ended == Counter(SEEDS)
    begun_at = []
    for attempts in read_epochs(home / "store"):
        for epochs in filter(None, attempts):
            assert epochs == list(range(epochs[0], epochs[-1] + 1))
        assert attempts[-1][-1] == 6
        begun_at += [epochs[0] for epochs in attempts[1:] if epochs]
    # A run whose node was lost continues from its checkpoint instead of starting again.
    assert 0 < len(begun_at) <= len(killed)
    assert max(begun_at) > 1


def find_learning_nodes(made, store):
    """Return the nodes with a run whose first epoch is over; others have nothing to lose."""
    attempts = [json.loads(file.read_text()) for file in store.glob("units/v1/*/*/*.json")]
    learning = {a["pid"] for a in attempts if a["state"] == "running" and a["epoch"]}
    return [
        name
        for name, raylet in sorted(made.find_raylets().items())
        if learning & {process.pid for process in raylet.children(recursive=True)}
    ]


def read_epochs(store):
    """Return the epochs in the store of each attempt at each run."""
    units = sorted((store / "units" / "v1").glob("*/*"))
    return [
        [
            [int(epoch) for epoch in re.findall(r'"epoch (\d+)/6', attempt.read_text())]
            for attempt in sorted(unit.glob("*.json"))
        ]
        for unit in units
    ]


@pytest.mark.chaos
def test_after_the_whole_cluster_vanished_the_same_command_finishes_the_rest(corpus, home):
    store, done = LogitStore(home / "store"), []
    for attempt in range(2):
        with start_simulated_cluster({"cpu": WorkerType(most=2)}, idle_minutes=1) as made:
            job = teachers(made, corpus, home / "store", *RUNS)
            if attempt == 0:
                while job.poll() is None and len(done) < 3:
                    time.sleep(0.5)
                    done = store.keys("tau") if (home / "store" / "logits").exists() else []
                made.kill_everything()
                job.kill()
            printed, _ = job.communicate(timeout=600)
    assert job.returncode == 0, printed
    assert len(store.keys("tau")) == len(SEEDS)
    (there,) = re.findall(r"(\d+) of 12 runs are in the store already", printed)
    assert 3 <= int(there) < 12
