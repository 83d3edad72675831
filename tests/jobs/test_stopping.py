"""Commands that are told to stop: by Ctrl-C, SIGTERM, or a terminal that is closed."""

import os
import pty
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import command
from jobs.log.watcher import Watcher
from jobs.plan.options import CorpusOptions
from jobs.worker.train import FineTune
from logit_store import LogitStore
from terminal.failures import run_program
from terminal.stopping import raise_if_stopped, stop_on_signals, take_signals

ROOT = Path(__file__).resolve().parents[2]
CLOSING = """
import signal, sys, time
from terminal import run_program

def main():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("closing", flush=True)
        time.sleep(60 if sys.argv[1] == "slowly" else 0)

run_program("it", main)
"""
"""A command that takes its time to close what it has open."""


@pytest.fixture(autouse=True)
def signals_are_not_ignored():
    """Let the tests run below `nohup` and in the background, where signals are ignored."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def start(how, **settings):
    """Start a command, and wait until it is at work."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLOSING, how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        **settings,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "stopped by SIGTERM"),
        (signal.SIGHUP, "stopped by SIGHUP"),
    ],
)
def test_a_signal_closes_what_is_open_and_is_the_exit_code(capsys, number, words):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    closed = []

    def main():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            closed.append(True)

    with pytest.raises(SystemExit) as ended:
        run_program("python -m it", main)
    assert (ended.value.code, closed) == (128 + number, [True])
    assert capsys.readouterr().err == f"\npython -m it: {words}\n"
    after = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == before


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_what_is_closing_at_once_and_a_repeated_first_does_not(second):
    with start("slowly", stderr=subprocess.PIPE) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "closing\n"
        process.send_signal(signal.SIGTERM)  # as `timeout` does
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(second)
        assert process.wait(10) == 128 + second
        assert process.stderr.read() == ""


def test_a_command_whose_terminal_is_closed_closes_what_is_open():
    ours, theirs = pty.openpty()
    with start("fast", stderr=theirs, preexec_fn=lambda: _adopt(theirs)) as process:
        os.close(theirs)
        os.close(ours)
        assert process.stdout.read() == "closing\n"
        assert process.wait(10) == 129


def _adopt(terminal):
    """Make a terminal that of this process, which leads a new session."""
    os.setsid()
    os.close(os.open(os.ttyname(terminal), os.O_RDWR))


def test_a_command_under_nohup_outlives_its_terminal(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            raise_if_stopped()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_that_a_library_swallows_and_a_signal_that_it_takes_are_noticed():
    with stop_on_signals():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        take_signals()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            raise_if_stopped()
    raise_if_stopped()  # the next command was not stopped


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "stopped by SIGTERM")],
)
def test_a_job_that_is_stopped_says_how_it_goes_on(capsys, monkeypatch, number, words):
    def main(options):
        """Be stopped."""
        os.kill(os.getpid(), number)

    monkeypatch.setattr("logging.basicConfig", lambda **settings: None)
    monkeypatch.setattr("sys.argv", ["jobs/prepare.py", "--store", "runs/x"])
    with pytest.raises(SystemExit) as ended:
        command.run(main, CorpusOptions)
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == (
        f"\n{words}: the same command continues where this one stopped: "
        "python jobs/prepare.py --store runs/x\n"
    )


def test_a_task_in_the_driver_that_is_stopped_has_not_failed(
    commands, called, monkeypatch, tmp_path
):
    monkeypatch.setattr(FineTune, "run", lambda work: os.kill(os.getpid(), signal.SIGTERM))
    options = ("--recipes", "demo_cpr", "--splits", "25", "--max-steps", "2")
    called(*commands.arguments("teachers", *options, store=tmp_path), code=143)
    watcher = Watcher(LogitStore(tmp_path))
    (job,) = map(watcher.read_job, watcher.list_jobs())
    assert (job.driver.state, dict(job.count_states())) == ("interrupted", {"stopped": 1})


@pytest.mark.parametrize(
    "module", ["logit_store", "students.complexity", "students.export", "report.dcase"]
)
def test_a_command_without_workers_is_stopped_in_one_line(capsys, monkeypatch, module):
    def stop(*arguments, **settings):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("terminal.parse_options", stop)
    monkeypatch.setattr("tyro.extras.subcommand_cli_from_dict", stop)
    monkeypatch.setattr("sys.argv", [module, "--help"])
    monkeypatch.delitem(sys.modules, f"{module}.__main__", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    assert ended.value.code == 143
    assert capsys.readouterr().err == f"\npython -m {module}: stopped by SIGTERM\n"


def test_ctrl_c_while_a_command_starts_prints_no_traceback():
    started = subprocess.run(
        [sys.executable, "-c", "import _root, signal; signal.raise_signal(signal.SIGINT)"],
        cwd=ROOT / "jobs",
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (started.returncode, started.stderr) == (-signal.SIGINT, "")
