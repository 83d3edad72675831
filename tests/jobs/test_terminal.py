"""What people see: tables of 80 columns, no colours in a pipe, errors, next commands."""

import errno
import io
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from command_lines import read
from rich.console import Console

from audio import corpora
from jobs import command, search, status
from jobs.ensemble import find_best_name
from jobs.log.files import AttemptRecord, DriverRecord, PlannedTask
from jobs.log.progress import JobProgress, TaskProgress
from jobs.plan import dry_run
from jobs.plan.estimates import Estimate
from jobs.plan.next_steps import make_export_command
from jobs.plan.options import CorpusOptions
from jobs.plan.records import Machine
from jobs.plan.students import StudentsOptions
from jobs.schedule.prices import find_price
from jobs.schedule.task import Needs
from jobs.trials import race
from jobs.trials.journal import Trial
from jobs.trials.options import SearchOptions
from logit_store import __main__ as logit_store_command
from logit_store.tables import draw_members
from report import as_text
from report.summary import System
from students.complexity import __main__ as complexity
from students.complexity.student import measure_student
from terminal import COLUMNS
from terminal.console import (
    UserError,
    console,
    error_console,
    progress_bar,
    repeat_command,
    say_next,
)
from terminal.tables import build_table

LONG = "demo_isotropic_int8+decoupled+mixup=0.4+soup-3f9c21ab04de"
RUN = "isotropic_ascdomain+adversarial split 100 seed 0, + ensemble, adversarial, views"


def printed_by(show):
    """Return what a function prints, or returns to be printed, on a terminal of 80 columns."""
    screen = io.StringIO()
    terminal = Console(file=screen, width=COLUMNS, highlight=False, soft_wrap=True)
    with pytest.MonkeyPatch.context() as patch:
        for module in (dry_run, race, as_text):
            patch.setattr(module, "console", terminal)
        shown = show()
    if shown is not None:
        terminal.print(shown)
    return screen.getvalue()


def trial():
    return Trial(
        point={"filters": 128},
        taught_by=f"stepwise@{LONG}",
        seed=0,
        macs=29_747_914,
        parameter_bytes=127_892,
        ram=255_992,
        state="over_budget",
        losses=[10.25] * 100,
        accuracies=[1.0] * 100,
    )


def estimate():
    return Estimate(
        seconds=360_000,
        needs=Needs(cpus=16, gpus=0.25),
        memory_bytes=120 * 10**9,
        stored_bytes=12_345 * 10**6,
        checkpoint_bytes=10**9,
        source="record",
    )


def job():
    attempt = AttemptRecord(
        unit=RUN,
        node="tutti-gpu-workers-x7k2p",
        pid=1,
        since=0.0,
        told=60.0,
        epoch=149,
        max_epochs=150,
        clips_per_s=81_234.0,
        time_left_s=360_000.0,
        gpu="H200",
        gpu_percent=100.0,
        gpu_memory_bytes=139 * 2**30,
        gpu_total_bytes=139 * 2**30,
    )
    unit = PlannedTask(number=1, name=RUN, keys=(), stored=False)
    driver = DriverRecord(
        command="python jobs/teachers.py --corpus demo",
        commit=None,
        host="head",
        pid=1,
        since=0.0,
        told=60.0,
    )
    return JobProgress("j", driver, 1.0, [TaskProgress(unit, "running", attempt)])


def shown_estimates():
    dry_run.show_estimates(
        [RUN, LONG], {RUN: estimate()}, Machine.here(1), find_price("laptop"), spot=False
    )


def shown_systems():
    corpus = corpora.read("demo", None)
    logits_NK = np.eye(len(corpus.scenes))[corpus.labels()]
    as_text.show_systems(corpus, [System(f"teacher {LONG}", 100, [logits_NK, logits_NK])])


def shown_places():
    teacher = race.Contender(f"stepwise-probabilities-without@{LONG}", 10.1234)
    race.show_places([race.Place(teacher, (10.1, 12.2), (0.99, 0.1))])


def members():
    row = {
        "member": LONG,
        "corpus": "tau-urban-2022",
        "split": 100,
        "view": 12,
        "log_loss_select": 10.123,
        "accuracy_select": 1.0,
        "bytes": 123 * 2**20,
        "written": datetime(2024, 1, 1, tzinfo=UTC),
    }
    return draw_members(pa.Table.from_pylist([row]))


SHOWN = {
    "a table": lambda: build_table(["member", "log loss"], [[2 * LONG, "0.123"]]),
    "the plan": shown_estimates,
    "the results": shown_systems,
    "the race": shown_places,
    "the search": lambda: search.build_leaderboard([trial()]),
    "how jobs stand": lambda: status.draw_jobs([job()]),
    "members of a store": members,
    "what students cost": lambda: complexity.draw_table(
        [replace(measure_student("dcase24_baseline"), ram=1_646_712)]
    ),
}


@pytest.mark.parametrize("what", SHOWN)
def test_a_table_fits_80_columns_and_nothing_is_cut_off(what):
    lines = printed_by(SHOWN[what]).splitlines()
    # The terminal wraps prose; a line of a table begins with a blank or a name, in columns.
    wide = [line for line in lines if len(line.rstrip()) > COLUMNS]
    assert not [line for line in wide if "  " in line.strip()]
    assert "…" not in "".join(lines)


def test_a_name_that_has_no_room_is_folded_and_a_figure_is_not():
    printed = printed_by(lambda: build_table(["member", "log loss"], [[3 * LONG, "0.123"]]))
    assert "".join(printed.split()).count("0.123") == 1
    assert 3 * LONG in "".join(printed.replace("0.123", "").split())


def test_in_a_pipe_there_are_no_colours_and_no_bar(capsys):
    with progress_bar() as bar:
        for _ in bar.track(range(3), description="runs"):
            console.print("[red]said[/red]")
    error_console.print("error: printed")
    assert capsys.readouterr() == (3 * "said\n", "error: printed\n")


def test_no_color_keeps_colours_off_a_terminal(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    screen = io.StringIO()
    Console(file=screen, force_terminal=True).print("[red]said[/red]")
    assert screen.getvalue() == "said\n"


def test_what_to_do_next_can_be_typed_as_it_stands(capsys):
    options = CorpusOptions(corpus="tau", root="/data/my tau", store="s3://bucket/a")
    say_next(
        ["python", "jobs/ensemble.py", *options.list_data_options()], ["python", "jobs/status.py"]
    )
    assert capsys.readouterr().out == (
        "next: python jobs/ensemble.py --corpus tau --root '/data/my tau' --store s3://bucket/a\n"
        "  or: python jobs/status.py\n"
    )


def test_without_a_store_the_next_command_names_the_one_that_was_used():
    assert CorpusOptions(corpus="demo").list_data_options() == [
        "--corpus",
        "demo",
        "--store",
        "runs/demo",
    ]


def test_the_same_command_can_be_typed_again_without_an_option(monkeypatch):
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py", "--dry-run", "--splits", "5"])
    assert repeat_command(less="--dry-run") == ["python", "jobs/teachers.py", "--splits", "5"]


def test_a_found_student_is_exported_from_its_own_store():
    options = StudentsOptions(corpus="demo", store="runs/x")
    line = " ".join(make_export_command(options, "demo_isotropic-3f9c21ab04de"))
    assert "students.export demo_isotropic-3f9c21ab04de --corpus demo --store runs/x" in line
    assert read(line).to == Path("demo_isotropic.onnx")
    in_c = read(" ".join(make_export_command(options, "demo_isotropic-3f9c21ab04de", in_c=True)))
    assert (in_c.form, in_c.to) == ("c", Path("demo_isotropic_c"))


@pytest.mark.parametrize("taught_by", [None, "stepwise@3f9c21ab04de", "demo_cpr-3f9c21ab04de"])
def test_what_a_search_found_is_taught_in_full_by_the_same_teacher(taught_by):
    options = SearchOptions(corpus="demo", split=25)
    asked = read(" ".join(options.make_full_length_command("search:first", taught_by)))
    assert asked.splits == (25,)
    assert taught_by in (asked.ensemble, asked.teacher)
    assert asked.no_teacher is (taught_by is None)


def test_students_learn_from_the_ensemble_that_is_best_on_unseen_clips():
    losses = {"a@1": 1.0, "b@1": 0.5, "a@2": 0.8, "b@2": 1.0}

    class Ensembles:
        def read(self, corpus, split, reference):
            return {"optimism": {"nested": losses[reference]}}

    made = {(25, "a"): "a@1", (25, "b"): "b@1", (100, "a"): "a@2", (100, "b"): "b@2"}
    assert find_best_name(SimpleNamespace(ensembles=Ensembles()), "demo", made) == "b"


def test_failed_tasks_bring_their_log_and_then_the_same_command():
    progress = job()
    progress.driver.state = "ended"
    progress.tasks[0] = replace(progress.tasks[0], state="failed", error="ValueError: x")
    log, same = status.find_next_steps(status.StatusOptions(store="runs/x"), [progress])
    assert log[-2:] == ["--log", RUN]
    assert same == ["python", "jobs/teachers.py", "--corpus", "demo"]


def test_a_job_that_runs_brings_watching_and_one_that_is_done_its_report():
    options, progress = status.StatusOptions(store="runs/x"), job()
    (watching,) = status.find_next_steps(options, [progress])
    assert watching[-1] == "--watch"
    progress.driver.state = "ended"
    progress.tasks[0] = replace(progress.tasks[0], state="done")
    (report,) = status.find_next_steps(options, [progress])
    assert report == ["python", "jobs/report.py", "--corpus", "demo", "--store", "runs/x"]


@pytest.mark.parametrize("typed", ["--corpus folder --root a=b", "--corpus=folder --root=a=b"])
def test_the_next_command_has_the_corpus_of_the_job_and_the_store_that_is_shown(typed):
    progress = job()
    progress.driver.command = f"python jobs/teachers.py {typed} --splits 25"
    (watching,) = status.find_next_steps(status.StatusOptions(), [progress])
    data = ["--corpus", "folder", "--root", "a=b", "--store", "runs/demo"]
    assert watching == ["python", "jobs/status.py", *data, "--watch"]


def test_debug_shows_the_traceback_of_an_error_which_is_one_line_otherwise(capsys, monkeypatch):
    def main(options):
        """Fail."""
        raise UserError("no such [recipe]")

    monkeypatch.setattr("logging.basicConfig", lambda **settings: None)
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py"])
    with pytest.raises(SystemExit) as ended:
        command.run(main, CorpusOptions)
    assert ended.value.code == 1
    assert capsys.readouterr() == ("", "error: no such [recipe]\n")
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py", "--debug"])
    with pytest.raises(UserError):
        command.run(main, CorpusOptions)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "x: No space left on device: free some space there, or name another place"),
        (errno.EACCES, "x: Permission denied: let this user read and write there, or name another"),
        (errno.EROFS, "x: Read-only file system: name another place"),
    ],
)
def test_what_a_disk_refuses_is_one_line_with_a_way_out(capsys, monkeypatch, number, words):
    def main(options):
        """Fail."""
        raise OSError(number, os.strerror(number), "x")

    monkeypatch.setattr("logging.basicConfig", lambda **settings: None)
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py"])
    with pytest.raises(SystemExit) as ended:
        command.run(main, CorpusOptions)
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {words}")
    assert printed.count("\n") == 1
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py", "--debug"])
    with pytest.raises(OSError, match="x"):
        command.run(main, CorpusOptions)


def test_an_unknown_option_is_one_line_in_a_pipe_and_exit_code_2(capsys, monkeypatch):
    def main(options):
        """Do nothing."""
        return 0

    monkeypatch.setattr("sys.argv", ["jobs/teachers.py", "--copus", "demo"])
    with pytest.raises(SystemExit) as ended:
        command.run(main, CorpusOptions)
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.startswith("python jobs/teachers.py: Unrecognized options: --copus, demo")
    assert printed.count("Unrecognized options") == 1


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", ": expected a command: ls, show, sql, "),
        ("lst --store x", ": lst: expected a command: ls, show, sql, "),
        ("ls --split 30", " ls: --split 30: expected one of 5, 10, 25, 50, 100. For full helptext"),
        (
            "import --corpus foldr",
            " import: --corpus foldr: expected one of demo, tau, cochlscene,",
        ),
    ],
)
def test_what_is_none_of_some_words_is_answered_by_these_in_their_order(typed, said, capsys):
    with pytest.raises(SystemExit) as ended:
        logit_store_command.main(typed.split())
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"python -m logit_store{said}")
    assert printed.count("\n") == 1
