import importlib
import inspect
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import ray_settings
from command_lines import read, steps
from corpus_files import write_corpus

from cluster.ports import find_free_ports, is_listening
from jobs.command import run
from jobs.schedule.cluster import connect
from jobs.schedule.workers import IN_PROCESS, Workers

ROOT = Path(__file__).resolve().parents[2]


def check_steps(printed: str) -> None:
    """Make sure that the commands which a command ends with can be typed as they stand."""
    for line in steps(printed):
        assert read(line) is not None, line


@pytest.fixture(autouse=True)
def plan_no_memory(monkeypatch):
    """Let no job in this process plan a student's memory, which takes seconds; tests/students does."""
    monkeypatch.setattr("students.ram.measure_recipe_ram", lambda recipe, corpus: 100_000)


class Commands:
    """Runs the project's commands as people type them, with their own home folder."""

    def __init__(self, folder: Path, ray_folder: Path, corpus: Path) -> None:
        self.folder, self.ray_folder, self.corpus = folder, ray_folder, corpus
        self.cluster: dict[str, str] = {}
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RAY_")
        }
        self.environment |= ray_settings.ENVIRONMENT
        self.environment |= {
            "HOME": str(folder),
            "RAY_TMPDIR": str(ray_folder),
            "TUTTI_CACHE": str(folder / "cache"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_enable_metrics_collection": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def arguments(self, job, *options, store):
        corpus = ("--corpus", "tau", "--root", str(self.corpus), "--store", str(store))
        return [f"jobs/{job}.py", *corpus, *options]

    def start(self, *command, cwd=ROOT, **environment):
        """Start Python with a command line, in its own process group."""
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=cwd,
            env=self.environment | self.cluster | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command, cwd=ROOT, code=0, **environment):
        """Run Python with a command line to its end, and return what it printed."""
        process = self.start(*command, cwd=cwd, **environment)
        printed, _ = process.communicate(timeout=540)
        assert process.returncode == code, printed
        assert "\x1b" not in printed  # no colours in a pipe
        check_steps(printed)
        return printed

    def job(self, job, *options, store, code=0):
        """Run one of the jobs on the corpus of tones."""
        return self.run(*self.arguments(job, *options, store=store), code=code)


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    # Ray's sockets need a short path.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as ray_folder:
        home = tmp_path_factory.mktemp("home")
        yield Commands(home, Path(ray_folder), write_corpus(home / "tau"))


@pytest.fixture
def alone(commands, tmp_path):
    """Commands that find no running cluster."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as ray_folder:
        (tmp_path / "home").mkdir()
        yield Commands(tmp_path / "home", Path(ray_folder), commands.corpus)


class OwnCluster(NamedTuple):
    """The workers of a cluster that belongs to this process, and the children it had before."""

    workers: Workers
    other_children: list[psutil.Process]


@pytest.fixture(scope="session")
def own_cluster():
    """Connect this process to a cluster of its own, one for all tests."""
    children = psutil.Process().children()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        # A value lives for two of these, and ours are sent every five seconds.
        patch.setenv("RAY_metrics_report_interval_ms", "3000")
        with connect() as workers:
            yield OwnCluster(workers, children)


@pytest.fixture(scope="session")
def address(commands):
    """Start a Ray cluster with token authentication by `ray start --head`; yield its dashboard.

    All commands use it from then on: starting and ending a cluster takes longer than most of them.
    """
    from jobs.schedule.ray_private import LOOPBACK_VARIABLE

    free = find_free_ports(3)
    mode = {"RAY_AUTH_MODE": "token", LOOPBACK_VARIABLE: "0"}
    environment = commands.environment | mode
    ray = Path(sys.executable).parent / "ray"
    generate = [ray, "get-auth-token", "--generate"]
    subprocess.run(generate, env=environment, check=True, capture_output=True)
    options = [f"--port={free[0]}", f"--dashboard-port={free[1]}", "--num-cpus=2", "--block"]
    options += [f"--dashboard-agent-listen-port={free[2]}", "--include-dashboard=true"]
    head = subprocess.Popen(
        [ray, "start", "--head", *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    dashboard = f"http://127.0.0.1:{free[1]}"
    try:
        _wait_for(
            lambda: is_listening(free[1]) and is_listening(free[2]), "the cluster's dashboard"
        )
        commands.cluster = mode | {
            "RAY_ADDRESS": f"127.0.0.1:{free[0]}",
            "RAY_API_SERVER_ADDRESS": dashboard,
        }
        yield dashboard
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(timeout=60)


def _wait_for(condition, what: str, timeout_s: float = 300):
    """Wait until a condition returns something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s} s for {what}")
        time.sleep(0.1)
    return found


wait_for = pytest.fixture(lambda: _wait_for)


@pytest.fixture
def called(commands, monkeypatch, capsys):
    """Runs a command line in this process, tasks included, and returns what it printed.

    A process of its own would spend seconds on imports, and a cluster more.
    """

    def call(script, *arguments, code=0):
        module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
        options_class = inspect.get_annotations(module.main)["options"]
        for name in ("HOME", "TUTTI_CACHE"):
            monkeypatch.setenv(name, commands.environment[name])
        monkeypatch.setenv(IN_PROCESS, "1")
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        monkeypatch.setattr(logging, "basicConfig", lambda **settings: None)
        with pytest.raises(SystemExit) as ended:
            run(module.main, options_class)
        captured = capsys.readouterr()
        printed = captured.out + captured.err
        assert ended.value.code == code, printed
        check_steps(printed)
        return printed

    return call
