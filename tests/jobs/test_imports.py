"""Commands import torch and Ray only when they need them: both take seconds to import."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_lines import COMMANDS
from job_logs import make_task, store_logits, write_clips

from jobs.plan.teacher_options import TeachersOptions
from jobs.plan.teachers import plan_teachers
from jobs.schedule.job_log import JobLog
from logit_store import LogitStore

ROOT = Path(__file__).resolve().parents[2]
HELP = tuple(f"{command.program} --help" for command in COMMANDS)
SHORT = ("--recipes", "demo_cpr", "--splits", "25", "--max-steps", "2")


@pytest.fixture(scope="module")
def store_with_a_job(tmp_path_factory):
    """A store with the log of a job that made one member."""
    store = LogitStore(tmp_path_factory.mktemp("store"))
    write_clips(store)
    with JobLog(store) as log:
        log.plan([make_task("a teacher")], [False])
        store_logits(store, make_task("a teacher"))
        log.note_end(make_task("a teacher"))
    return store.address


@pytest.fixture(scope="module")
def store_with_a_teacher(commands, tmp_path_factory):
    """A store with logits of the run that SHORT asks for."""
    store = LogitStore(tmp_path_factory.mktemp("store"))
    options = TeachersOptions(
        corpus="tau",
        root=str(commands.corpus),
        store=store.address,
        recipes=("demo_cpr",),
        splits=(25,),
        max_steps=2,
    )
    corpus = options.open_corpus(store)
    store.write_clips("tau", corpus.clips_table())
    (task,) = plan_teachers(options, corpus, store).list_tasks()
    logits_NK = np.zeros((len(corpus), len(corpus.scenes)))
    record = {"kind": "teacher", "protocol": "honest", "epochs": 1, "training_s": 1.0}
    for key in task.keys:
        store.write(key, logits_NK, record)
    return store.address


@pytest.fixture(scope="module")
def found(commands, store_with_a_job, store_with_a_teacher):
    """What each command imported, by what is typed after `python`."""
    typed = {line: shlex.split(line)[1:] for line in HELP}
    typed["status"] = ["jobs/status.py", "--store", store_with_a_job]
    typed["ls"] = ["-m", "logit_store", "ls", "--store", store_with_a_job]
    typed["no corpus"] = shlex.split(
        "jobs/submission.py --root nowhere --label Doe_UNI_task1_1 --students x --meta x.yaml"
    )
    typed["all done"] = commands.arguments("teachers", *SHORT, store=store_with_a_teacher)
    typed["refused"] = ["jobs/teachers.py", "--views", "0"]
    environment = commands.environment | {"PYTHONPATH": str(ROOT)}
    return dict(zip(typed, imports_of(list(typed.values()), environment), strict=True))


def imports_of(command_lines, environment):
    """Run command lines in an interpreter that has imported nothing large."""
    ended = subprocess.run(
        [sys.executable, ROOT / "tests" / "imports_of.py"],
        cwd=ROOT,
        env=environment,
        input=json.dumps(command_lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def check_imports(command):
    assert command["code"] == 0, command["printed"]
    assert command["imported"] == [], command["printed"]


@pytest.mark.parametrize("line", HELP)
def test_help_imports_neither_torch_nor_ray(found, line):
    check_imports(found[line])
    assert "usage: " in found[line]["printed"]


@pytest.mark.parametrize(("line", "shown"), [("status", "1 of 1"), ("ls", "a_teacher")])
def test_what_shows_a_store_imports_neither_torch_nor_ray(found, line, shown):
    check_imports(found[line])
    assert shown in found[line]["printed"]


def test_a_value_is_refused_before_torch_and_ray_are_imported(found):
    refused = found["refused"]
    assert (refused["code"], refused["imported"]) == (2, []), refused["printed"]
    assert "--views 0: expected a whole number from 1 to 1,000" in refused["printed"]


def test_a_job_that_finds_all_its_work_done_imports_neither_torch_nor_ray(found):
    check_imports(found["all done"])
    assert "1 of 1 run is in the store already" in found["all done"]["printed"]


def test_a_submission_looks_at_the_corpus_before_it_imports_torch(found):
    command = found["no corpus"]
    assert (command["code"], command["imported"]) == (1, [])
    assert "nowhere" in command["printed"]


def test_an_import_of_torch_is_found(commands, tmp_path):
    (tmp_path / "torch.py").touch()
    (tmp_path / "script.py").write_text("import torch")
    environment = commands.environment | {"PYTHONPATH": str(tmp_path)}
    (imported,) = imports_of([[str(tmp_path / "script.py")]], environment)
    assert imported["imported"] == ["torch"]
