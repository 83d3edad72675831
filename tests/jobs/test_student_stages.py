"""The stages before and after a student's training: what is planned, refused and done (N clips)."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from tiny import RECIPE
from tiny_student import TINY_STUDENT

from audio.clips import Corpus
from audio.corpora import tau
from jobs.plan.members import show_device_gains
from jobs.plan.stage_options import check_stage_options, plan_device_runs
from jobs.plan.stages import FirstRuns, list_stages
from jobs.plan.students import (
    StudentsOptions,
    plan_recipe,
    plan_students,
)
from jobs.plan.workload import find_workload
from jobs.schedule.task import Outcome
from jobs.worker import train
from jobs.worker.where import read_corpus
from logit_store import LogitKey, LogitStore
from students import RECIPES
from students.stored import load_student
from terminal.console import UserError

TEACHER = "wise-0123456789ab"
SPLIT = 100


@pytest.fixture(scope="module")
def corpus(commands):
    return tau.read(commands.corpus)


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory):
    """A store with one teacher of splits 25 and 100."""
    made = LogitStore(tmp_path_factory.mktemp("store"))
    made.write_clips("tau", corpus.clips_table())
    logits_NK = 3.0 * np.eye(3)[corpus.labels()]
    for split in (25, SPLIT):
        made.write(LogitKey("tau", split, TEACHER), logits_NK, {"kind": "teacher"})
    return made


@pytest.fixture(scope="module")
def first_root(tmp_path_factory):
    """A folder corpus of two classes."""
    root = tmp_path_factory.mktemp("first")
    for number in range(24):
        file = root / ("hiss", "hum")[number % 2] / f"far{number}.wav"
        file.parent.mkdir(exist_ok=True)
        soundfile.write(file, np.random.default_rng(number).normal(0, 0.1, 8_000), 8_000)
    return str(root)


@pytest.fixture(autouse=True)
def known_ram(monkeypatch):
    """Plans of memory, which take seconds: a student's RAM is a thousand bytes for each filter."""

    def find(recipe, corpus):
        return 1_000 * recipe.arguments.get("filters", 64)

    for module in ("students", "stages"):
        monkeypatch.setattr(f"jobs.plan.{module}.find_ram", find)


@pytest.fixture
def here(monkeypatch, tmp_path):
    """Work runs in this process, on the CPU, with a cache of its own."""
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path))
    monkeypatch.setattr(train, "find_reserved_device", lambda: torch.device("cpu"))


def options(corpus: Corpus, store: LogitStore, **changes):
    asked = {"corpus": "tau", "recipes": ("isotropic",), "splits": (SPLIT,)}
    made = StudentsOptions(**asked | {"root": str(corpus.root), "store": store.address} | changes)
    check_stage_options(made)
    return made


def planned(corpus, store, splits=(SPLIT,), **changes):
    chosen = options(corpus, store, splits=splits, **changes)
    tasks = plan_students(chosen, corpus, store, dict.fromkeys(splits, TEACHER))
    return plan_device_runs(chosen, tasks, corpus) if chosen.per_device else tasks


def plan_tiny(corpus, store, **changes):
    """Plan a tiny student that learns for an epoch."""
    recipe = replace(TINY_STUDENT, training=replace(RECIPE, max_epochs=1))
    return plan_recipe(options(corpus, store, **changes), corpus, store, recipe, SPLIT, TEACHER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_root": "/data"}, "--first-root /data: of which corpus"),
        ({"first_corpus": "folder"}, "say where its files are: --first-root FOLDER"),
        (
            {"no_teacher": True, "ways": ("plain", "plain+features=2")},
            "--ways plain[+]features=2 with --no-teacher: features=2 is how soft labels teach",
        ),
        (
            {"first_corpus": "folder", "first_pool": ("rest",)},
            "a student has one stage before its own",
        ),
        ({"compare": True, "per_device": True}, "--per-device with --compare"),
        ({"compare": True, "prune_to": 9}, "--prune-to with --compare"),
        (
            {"no_teacher": True, "prune_to": 9},
            "between its steps a pruned student learns from soft",
        ),
        ({"ways": ("alone",), "prune_to": 30_000}, "isotropic_alone learns from labels alone"),
        ({"prune_to": 10}, "--prune-to 10: student recipe isotropic: at its smallest filters, 1"),
        ({"prune_to": 50_000}, "there is nothing to prune"),
        ({"recipes": ("dsmn_model1",), "prune_to": 9_000}, "dsmn_model1 cannot be pruned"),
    ],
)
def test_stages_that_contradict_each_other_are_refused_before_they_run(
    corpus, store, changes, message
):
    with pytest.raises(UserError, match=message):
        planned(corpus, store, **changes)


def test_the_corpus_itself_is_no_first_corpus(corpus, store):
    with pytest.raises(UserError, match="that is --corpus, whose other clips may judge"):
        options(corpus, store, first_corpus="tau", first_root=str(corpus.root))


def test_a_corpus_that_the_student_cannot_take_first_is_refused(corpus, store, tmp_path):
    with pytest.raises(UserError, match="--first-corpus folder: .*see --first-root"):
        planned(corpus, store, first_corpus="folder", first_root=str(tmp_path / "none"))


def test_a_first_corpus_with_a_clip_that_judges_is_refused(corpus, store, tmp_path):
    root = shutil.copytree(corpus.root, tmp_path / "copy")
    with pytest.raises(UserError, match=r"of the first stage, tau, has clips that judge"):
        planned(corpus, store, first_corpus="tau", first_root=str(root))


def test_a_student_without_stages_has_the_name_and_the_work_of_before(corpus, store):
    (plain,) = planned(corpus, store)
    (first,) = planned(corpus, store, first_pool=())
    assert plain.keys == first.keys
    assert (plain.work.first, plain.work.start_kind) == (None, "pool")


def test_the_first_corpus_is_learnt_once_for_all_splits_and_before_them(corpus, store, first_root):
    tasks = planned(corpus, store, splits=(25, SPLIT), first_corpus="folder", first_root=first_root)
    other = read_corpus("folder", first_root, store)
    first = FirstRuns.of(tasks, corpus, other)
    (before,) = first.tasks
    assert before.work.recipe.distillation is None
    assert (before.work.split, before.keys[0].corpus) == (100, "folder")
    assert first.find_ready(tasks) == [before]
    assert first.follow(tasks, Outcome(before)) == tasks
    assert first.follow(tasks, Outcome(tasks[0])) == []
    assert [first.find_corpus(each) for each in (before, tasks[0])] == [other, corpus]
    assert all(task.name.startswith("isotropic_after_folder split") for task in tasks)
    # The stage before is a task of its own, which is counted on its own.
    plain = planned(corpus, store)[0]
    counts = [find_workload(task.work, corpus, store).n_learnt for task in (plain, tasks[1])]
    assert counts[0] == counts[1]


def test_all_but_the_classes_of_a_first_corpus_is_where_a_student_starts_from(
    corpus, store, first_root, here, monkeypatch
):
    (task,) = plan_tiny(corpus, store, first_corpus="folder", first_root=first_root)
    store.write_clips("folder", read_corpus("folder", first_root, store).clips_table())
    begun = []
    original = __import__("students.distill", fromlist=["train_and_store"]).train_and_store

    def keep_start(run, key, kind, keep, *rest):
        begun.append({name: each.clone() for name, each in keep.state_dict().items()})
        original(run, key, kind, keep, *rest)

    monkeypatch.setattr("students.distill.train_and_store", keep_start)
    key = task.work.run()
    assert key == task.keys[0]
    record = store.read_record(key)
    assert record["first_corpus"] == "folder"
    left = load_student(store, LogitKey("folder", 100, record["start"]), 2).student.state_dict()
    for name, tensor in begun[1].items():
        if name.startswith("classifier"):
            assert len(tensor) == 3
        else:
            assert torch.equal(tensor, left[name])


def test_pruning_is_steps_of_students_that_learn_from_the_same_teacher(corpus, store):
    (task,) = planned(corpus, store, prune_to=30_000)
    stages = list(list_stages(task.work))
    widths = [stage.recipe.arguments.get("filters", 64) for stage in stages]
    assert widths == sorted(widths)
    assert widths[-1] == 64
    assert {stage.taught_by for stage in stages} == {TEACHER}
    assert [stage.start_kind for stage in stages[:-1]] == ["pruned"] * (len(stages) - 1)
    epochs = [stage.recipe.training.max_epochs for stage in stages]
    full = RECIPES["isotropic"].training.max_epochs
    assert epochs == [full // 2, *[full // 10] * (len(stages) - 2), full]
    assert task.name.startswith(f"isotropic_pruned_filters{widths[0]} split")


def test_a_pruned_student_may_come_from_one_that_is_over_the_budget(corpus, store):
    with pytest.raises(UserError, match="bytes of parameters at fp32, expected at most 128,000"):
        planned(corpus, store, precision="fp32")
    (task,) = planned(corpus, store, precision="fp32", prune_to=100_000)
    assert task.work.recipe.arguments["filters"] < 64


def test_a_student_is_pruned_and_then_has_a_network_for_each_device(corpus, store, here, capsys):
    chosen = options(corpus, store, prune_to=150, max_steps=2)
    tasks = plan_tiny(corpus, store, prune_to=150, max_steps=2)
    (task,) = plan_device_runs(chosen, tasks, corpus)
    assert task.work.run() == task.keys[0]
    specific, general = task.keys
    record = store.read_record(general)
    assert (
        record["params"]
        <= 150
        < store.read_record(LogitKey("tau", SPLIT, record["start"]))["params"]
    )
    assert record["pruned"]["arguments"]["filters"] > record["recipe"]["arguments"]["filters"]
    assert record["ram"] == 1_000 * record["recipe"]["arguments"]["filters"]
    assert store.read_record(specific)["start"] == general.member
    assert store.read_record(specific)["ram"] == record["ram"]
    assert specific.member.startswith("tiny_pruned_filters")
    show_device_gains([task], corpus, store)
    assert "device-specific" in capsys.readouterr().out


def test_networks_per_device_and_their_general_student_are_one_task(corpus, store):
    (plain,) = planned(corpus, store, views=2)
    (task,) = planned(corpus, store, views=2, per_device=True, epochs=3)
    assert task.keys[1].member != plain.keys[0].member  # with three epochs
    assert task.keys[1:] == planned(corpus, store, views=2, epochs=3)[0].keys
    assert task.work.stage.epochs == 3
    assert task.name.startswith("isotropic_per_device split")


@pytest.mark.slow
def test_the_command_trains_all_stages_and_says_what_they_gained(
    called, commands, store, first_root
):
    arguments = ["--corpus", "tau", "--root", commands.corpus, "--store", store.address]
    how = ["--recipes", "demo_isotropic", "--splits", SPLIT, "--teacher", "wise", "--max-steps", 2]
    stages = ["--first-corpus", "folder", "--first-root", first_root, "--per-device"]
    printed = called("jobs/students.py", *arguments, *how, *stages)
    assert "demo_isotropic_after_folder_per_device" in printed
    assert "device-specific" in printed
    again = called("jobs/students.py", *arguments, *how, *stages)
    assert "2 of 2 runs are in the store already" in again


@pytest.mark.slow
def test_a_first_corpus_with_the_audio_of_a_clip_that_judges_is_refused_once_it_is_decoded(
    called, commands, corpus, store, first_root, tmp_path
):
    root = shutil.copytree(first_root, tmp_path / "first")
    judging = corpus.root / corpus.column("file")[corpus.rows(SPLIT, "test")[0]]
    shutil.copy(judging, root / "hum" / "innocent.wav")
    # Other tests have put other clips of a first corpus into the store that they share.
    own = shutil.copytree(
        store.address, tmp_path / "store", ignore=shutil.ignore_patterns("*folder*")
    )
    arguments = ["--corpus", "tau", "--root", commands.corpus, "--store", own]
    how = ["--recipes", "demo_isotropic", "--splits", SPLIT, "--teacher", "wise", "--max-steps", 3]
    first = ["--first-corpus", "folder", "--first-root", root]
    assert "has the audio of 1 clips" in called(
        "jobs/students.py", *arguments, *how, *first, code=1
    )
