"""What people see: tables of 80 columns, no colours in a pipe, errors, what to do next."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from command_lines import read
from rich.console import Console

from audio import corpora
from jobs import command, plans, race, results, search, status
from jobs.command import CorpusOptions, UserError, again, progress_bar, say_next
from jobs.costs import find_price
from jobs.ensemble import best_name
from jobs.estimates import Estimate
from jobs.fanout import Needs
from jobs.job_files import Attempt, Driver, PlannedUnit
from jobs.journal import Trial
from jobs.progress import JobProgress, UnitProgress
from jobs.records import Device
from jobs.search_options import SearchOptions
from jobs.selection import Chosen
from jobs.student_runs import StudentsOptions, export_command
from jobs.tables import table
from logit_store.tables import overview
from report import System
from students.complexity import __main__ as complexity
from students.complexity.figures import figures
from terminal import COLUMNS

LONG = "demo_isotropic_int8+decoupled+mixup=0.4+soup-3f9c21ab04de"
RUN = "isotropic_ascdomain+adversarial split 100 seed 0, + ensemble, adversarial, views"


def printed_by(show):
    """What a function prints, or gives to be printed, on a terminal of 80 columns."""
    screen = io.StringIO()
    terminal = Console(file=screen, width=COLUMNS, highlight=False, soft_wrap=True)
    with pytest.MonkeyPatch.context() as patch:
        for module in (plans, race, results):
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
    attempt = Attempt(
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
    unit = PlannedUnit(number=1, name=RUN, keys=(), stored=False)
    driver = Driver(
        command="python jobs/teachers.py --corpus demo",
        commit=None,
        host="head",
        pid=1,
        since=0.0,
        told=60.0,
    )
    return JobProgress("j", driver, 1.0, [UnitProgress(unit, "running", attempt)])


def shown_estimates():
    plans.show_estimates(
        [RUN, LONG], {RUN: estimate()}, Device.here(1), find_price("laptop"), spot=False
    )


def shown_systems():
    corpus = corpora.read("demo", None)
    logits_NK = np.eye(len(corpus.scenes))[corpus.labels()]
    results.show_systems(corpus, [System(f"teacher {LONG}", 100, [logits_NK, logits_NK])])


def shown_places():
    teacher = race.Teacher(f"stepwise-probabilities-without@{LONG}", 10.1234)
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
    return overview(pa.Table.from_pylist([row]))


SHOWN = {
    "a table": lambda: table(["member", "log loss"], [[2 * LONG, "0.123"]]),
    "the plan": shown_estimates,
    "the results": shown_systems,
    "the race": shown_places,
    "the search": lambda: search.leaders([trial()]),
    "how jobs stand": lambda: status.picture([job()]),
    "members of a store": members,
    "what students cost": lambda: complexity.picture([figures("recursive_2x3")]),
}


@pytest.mark.parametrize("what", SHOWN)
def test_a_table_fits_80_columns_and_nothing_is_cut_off(what):
    lines = printed_by(SHOWN[what]).splitlines()
    # Prose is left to the terminal to wrap; a table begins with a blank or a name, in columns.
    wide = [line for line in lines if len(line.rstrip()) > COLUMNS]
    assert not [line for line in wide if "  " in line.strip()]
    assert "…" not in "".join(lines)


def test_a_name_that_has_no_room_is_folded_and_a_figure_is_not():
    printed = printed_by(lambda: table(["member", "log loss"], [[3 * LONG, "0.123"]]))
    assert "".join(printed.split()).count("0.123") == 1
    assert 3 * LONG in "".join(printed.replace("0.123", "").split())


def test_in_a_pipe_there_are_no_colours_and_no_bar(capsys):
    with progress_bar() as bar:
        for _ in bar.track(range(3), description="runs"):
            command.console.print("[red]said[/red]")
    command.errors.print("error: told")
    assert capsys.readouterr() == (3 * "said\n", "error: told\n")


def test_no_color_keeps_colours_off_a_terminal(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    screen = io.StringIO()
    Console(file=screen, force_terminal=True).print("[red]said[/red]")
    assert screen.getvalue() == "said\n"


def test_what_to_do_next_can_be_typed_as_it_stands(capsys):
    options = CorpusOptions(corpus="tau", root="/data/my tau", store="s3://bucket/a")
    say_next(["python", "jobs/ensemble.py", *options.data()], ["python", "jobs/status.py"])
    assert capsys.readouterr().out == (
        "next: python jobs/ensemble.py --corpus tau --root '/data/my tau' --store s3://bucket/a\n"
        "  or: python jobs/status.py\n"
    )


def test_without_a_store_the_next_command_is_told_the_one_that_was_used():
    assert CorpusOptions(corpus="demo").data() == ["--corpus", "demo", "--store", "runs/demo"]


def test_the_same_command_can_be_typed_again_without_an_option(monkeypatch):
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py", "--dry-run", "--splits", "5"])
    assert again(less="--dry-run") == ["python", "jobs/teachers.py", "--splits", "5"]


def test_a_found_student_is_exported_from_its_own_store():
    options = StudentsOptions(corpus="demo", store="runs/x")
    line = " ".join(export_command(options, "demo_isotropic-3f9c21ab04de"))
    assert "students.export demo_isotropic-3f9c21ab04de --corpus demo --store runs/x" in line
    assert read(line).to == Path("demo_isotropic.onnx")


@pytest.mark.parametrize("taught_by", [None, "stepwise@3f9c21ab04de", "demo_cpr-3f9c21ab04de"])
def test_what_a_search_found_is_taught_in_full_by_the_same_teacher(taught_by):
    options = SearchOptions(corpus="demo", split=25)
    told = read(" ".join(options.full_length("search:first", taught_by)))
    assert told.splits == (25,)
    assert taught_by in (told.ensemble, told.teacher)
    assert told.no_teacher is (taught_by is None)


def test_of_several_ensembles_the_best_on_unseen_clips_is_what_students_learn_from():
    losses = {"a@1": 1.0, "b@1": 0.5, "a@2": 0.8, "b@2": 1.0}

    class Store:
        def read_ensemble(self, corpus, split, reference):
            return {"optimism": {"nested": losses[reference]}}

    made = {(25, "a"): "a@1", (25, "b"): "b@1", (100, "a"): "a@2", (100, "b"): "b@2"}
    found = {place: Chosen(reference, np.eye(1)) for place, reference in made.items()}
    assert best_name(Store(), "demo", found) == "b"


def test_failed_units_bring_their_log_and_then_the_same_command():
    progress = job()
    progress.driver.state = "ended"
    progress.units[0] = replace(progress.units[0], state="failed", error="ValueError: x")
    log, same = status.next_steps(status.StatusOptions(store="runs/x"), [progress])
    assert log[-2:] == ["--log", RUN]
    assert same == ["python", "jobs/teachers.py", "--corpus", "demo"]


def test_a_job_that_runs_brings_watching_and_one_that_is_done_its_report():
    options, progress = status.StatusOptions(store="runs/x"), job()
    (watching,) = status.next_steps(options, [progress])
    assert watching[-1] == "--watch"
    progress.driver.state = "ended"
    progress.units[0] = replace(progress.units[0], state="done")
    (report,) = status.next_steps(options, [progress])
    assert report[:2] == ["python", "jobs/report.py"]


def test_debug_shows_the_traceback_of_an_error_and_else_there_is_one_line(capsys, monkeypatch):
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


def test_an_option_that_is_none_is_one_line_in_a_pipe_and_exit_code_2(capsys, monkeypatch):
    def main(options):
        """Do nothing."""
        return 0

    monkeypatch.setattr("sys.argv", ["jobs/teachers.py", "--copus", "demo"])
    with pytest.raises(SystemExit) as ended:
        command.run(main, CorpusOptions)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("python jobs/teachers.py: ")
    assert "Unrecognized options: --copus" in told


def test_a_command_that_is_interrupted_says_how_it_goes_on(capsys, monkeypatch):
    def main(options):
        """Be interrupted."""
        raise KeyboardInterrupt

    monkeypatch.setattr("logging.basicConfig", lambda **settings: None)
    monkeypatch.setattr("sys.argv", ["jobs/teachers.py", "--store", "runs/x"])
    with pytest.raises(SystemExit) as ended:
        command.run(main, CorpusOptions)
    assert ended.value.code == command.INTERRUPTED
    told = capsys.readouterr().err
    assert told.endswith("where this one stopped: python jobs/teachers.py --store runs/x\n")
