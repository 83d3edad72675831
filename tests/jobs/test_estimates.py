import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_workers import FakeWorkers

import students.dry_step
from audio.corpora import demo
from jobs.plan.dry_run import show_plan
from jobs.plan.estimates import estimate_runs, find_machine, find_workloads, plan_spending
from jobs.plan.records import Machine, RecordedPaces
from jobs.plan.students import StudentsOptions, plan_students
from jobs.plan.teacher_options import TeachersOptions
from jobs.plan.teachers import plan_teachers
from jobs.plan.workload import count_workload, find_workload
from jobs.schedule.prices import find_price
from jobs.schedule.task import Needs, Outcome
from jobs.trials.estimates import show_trials
from jobs.trials.options import SearchOptions
from jobs.trials.race import count_students
from logit_store import LogitKey, LogitStore
from students import RECIPES as STUDENTS
from students.search_space import shorten
from teachers import RECIPES, build
from teachers.dry_step import measure_teacher_footprint, measure_teacher_step
from terminal.console import UserError
from terminal.tables import format_count, format_duration
from training.needs import DryStep

CPU = torch.device("cpu")
HERE = Machine.here(1)
STEP = DryStep(train_clip_s=0.1, predict_clip_s=0.01, gpu_share=None)


@pytest.fixture(scope="module")
def corpus():
    return demo.read()


def planned(tmp_path: Path, **options):
    chosen = TeachersOptions(store=str(tmp_path), **options)
    return plan_teachers(chosen, demo.read(), LogitStore(tmp_path))


def work(tmp_path, corpus, **options):
    (task,) = planned(tmp_path, **options).tasks
    return find_workload(task.work, corpus, LogitStore(tmp_path))


def all_alike(kinds):
    return dict.fromkeys(kinds, STEP)


def no_steps(kinds):
    assert not kinds
    return {}


def test_a_dry_step_measures_training_and_prediction(corpus):
    measured = measure_teacher_step(RECIPES["demo_cpr"], corpus.scenes, 1.0, CPU)
    assert measured.train_clip_s > 0
    assert measured.predict_clip_s > 0
    assert measured.gpu_share is None


@pytest.mark.parametrize(("name", "in_int8"), [("demo_isotropic", False), ("demo_isotropic", True)])
def test_a_student_has_a_dry_step_as_well(corpus, name, in_int8):
    measured = students.dry_step.measure_student_step(
        STUDENTS[name], corpus.scenes, 1.0, CPU, in_int8=in_int8
    )
    assert measured.train_clip_s > 0
    assert measured.predict_clip_s > 0


def test_the_memory_of_a_run_grows_with_its_batch_and_holds_its_optimiser():
    recipe = RECIPES["demo_cpr"]

    def needed(batch_size):
        training = replace(recipe.training, batch_size=batch_size)
        return measure_teacher_footprint(replace(recipe, training=training), 8, 1.0).training_bytes

    few, more, most = needed(16), needed(1016), needed(2016)
    # The process's own peak may grow in between, by some megabytes of some hundreds.
    assert most - more == pytest.approx(more - few, rel=0.1)
    model = build("cpr_128", n_classes=8, weights="none")
    shape = recipe.front_end.compute_shape(32_000)
    first_layer = model.get_submodule("in_c.0")(torch.zeros(1, *shape))
    # At least what a convolution and its normalisation keep for the backward pass.
    assert more - few > 1000 * first_layer.numel() * 4


def test_the_weights_of_a_run_are_those_of_its_model():
    weights = build("cpr_128", n_classes=8, weights="none").parameters()
    expected = 4 * sum(parameter.numel() for parameter in weights)
    assert measure_teacher_footprint(RECIPES["demo_cpr"], 8, 1.0).weights_bytes == expected


def test_a_run_takes_as_long_as_its_clips(tmp_path, corpus):
    found = work(tmp_path, corpus, recipes=("mn04_as_dir_fms",), splits=(25,), views=3)
    n_fit, n_select = (len(corpus.rows(25, fold)) for fold in ("fit", "select"))
    expected = 150 * (0.1 * n_fit + 0.01 * n_select) + 3 * 0.01 * len(corpus)
    assert found.estimate_seconds(STEP) == pytest.approx(expected)


def test_a_run_with_a_last_step_takes_no_longer_than_that(tmp_path, corpus):
    found = work(tmp_path, corpus, recipes=("demo_cpr",), splits=(100,), max_steps=3)
    dry = DryStep(train_clip_s=1.0, predict_clip_s=0.0, gpu_share=None)
    assert found.estimate_seconds(dry) == 3 * 16


def test_a_run_leaves_the_logits_of_its_views_and_its_weights(tmp_path, corpus):
    key = LogitKey(corpus.name, 25, "m-0")
    store = LogitStore(tmp_path / "store")
    store.write_clips(corpus.name, corpus.clips_table())
    logits_NK = np.zeros((len(corpus), len(corpus.scenes)), np.float32)
    store.write(key, logits_NK, {"recipe": {"name": "m"}})
    (stored,) = store.members(corpus.name)["bytes"].to_pylist()
    found = work(tmp_path, corpus, recipes=("demo_cpr",), splits=(25,), views=2)
    # Rows and footer. The footer of a real run contains its record, some kilobytes.
    assert stored < found.count_stored_bytes(1000) / 2 < stored + 20_000


def test_runs_that_do_the_same_work_are_measured_once(tmp_path, corpus):
    plan = planned(tmp_path)
    assert len(plan.tasks) == 110
    works = find_workloads(plan.tasks, LogitStore(tmp_path), plan.find_corpus)
    assert len({found.pace.name for found in works.values()}) == 7  # the architectures


def test_every_architecture_of_students_has_its_own_pace_whatever_the_split(corpus):
    paces = {
        name: count_workload(corpus, recipe, 100).pace.name for name, recipe in STUDENTS.items()
    }
    assert paces["isotropic"] != paces["cp_mobile_2023"]
    assert paces["isotropic"] == count_workload(corpus, STUDENTS["isotropic"], 5).pace.name


def recorded(store, corpus, split, recipe, *, epochs, training_s, last_s, **machine):
    """Store a member with a record of such a run."""
    if not store.files.exists():
        store.write_clips(corpus.name, corpus.clips_table())
    machine_record = {"accelerator": None, "processor": HERE.processor, "threads": 1} | machine
    record = {
        "kind": "teacher",
        "protocol": "honest",
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "epochs": epochs,
        "training_s": training_s,
        "last_attempt_s": last_s,
        "machine": machine_record,
    }
    logits_NK = np.zeros((len(corpus), len(corpus.scenes)), np.float32)
    name = f"{recipe.name}-{len(store.keys(corpus.name)):012x}"
    store.write(LogitKey(corpus.name, split, name), logits_NK, record)


@pytest.fixture
def store(tmp_path):
    return LogitStore(tmp_path / "store")


def test_records_of_earlier_runs_are_scaled_by_clips_and_epochs(store, corpus):
    recipe = RECIPES["mn05_as_dir_fms"]
    n_fit = len(corpus.rows(25, "fit"))
    recorded(store, corpus, 25, recipe, epochs=2, training_s=2 * n_fit, last_s=2 * n_fit + 5)
    found = count_workload(corpus, recipe, 100, n_views=3)
    expected = recipe.training.max_epochs * len(corpus.rows(100, "fit")) + 3 * 5
    assert RecordedPaces.read(store, corpus, HERE).estimate_seconds(found) == pytest.approx(
        expected
    )


@pytest.mark.parametrize(
    "machine", [{"threads": 2}, {"processor": "other"}, {"accelerator": "NVIDIA A10G"}]
)
def test_records_of_another_kind_of_device_say_nothing(store, corpus, machine):
    recipe = RECIPES["demo_cpr"]
    recorded(store, corpus, 25, recipe, epochs=2, training_s=9, last_s=9, **machine)
    assert (
        RecordedPaces.read(store, corpus, HERE).estimate_seconds(count_workload(corpus, recipe, 25))
        is None
    )


def test_on_a_gpu_its_host_does_not_matter(store, corpus):
    recipe, gpu = RECIPES["demo_cpr"], Machine("NVIDIA A10G", "aarch64", 4)
    recorded(store, corpus, 25, recipe, epochs=2, training_s=9, last_s=9, accelerator="NVIDIA A10G")
    assert (
        RecordedPaces.read(store, corpus, gpu).estimate_seconds(count_workload(corpus, recipe, 25))
        > 0
    )


def test_records_of_another_batch_or_model_say_nothing(store, corpus):
    recipe = RECIPES["demo_cpr"]
    recorded(store, corpus, 25, recipe, epochs=2, training_s=9, last_s=9)
    paces = RecordedPaces.read(store, corpus, HERE)
    larger = replace(recipe, training=replace(recipe.training, batch_size=99))
    assert paces.estimate_seconds(count_workload(corpus, recipe, 25)) is not None
    assert paces.estimate_seconds(count_workload(corpus, larger, 25)) is None
    assert paces.estimate_seconds(count_workload(corpus, RECIPES["demo_mn"], 25)) is None
    assert paces.estimate_seconds(count_workload(corpus, STUDENTS["demo_isotropic"], 25)) is None


def test_logits_that_were_imported_have_no_pace(store, corpus):
    store.write_clips(corpus.name, corpus.clips_table())
    logits_NK = np.zeros((len(corpus), len(corpus.scenes)), np.float32)
    store.write(LogitKey(corpus.name, 25, "m-0"), logits_NK, {"recipe": {"name": "m"}})
    assert RecordedPaces.read(store, corpus, HERE) == RecordedPaces({}, {})


def test_what_records_show_is_not_measured_again(store, corpus):
    recipe = RECIPES["demo_cpr"]
    recorded(store, corpus, 25, recipe, epochs=2, training_s=9, last_s=9)
    works, needs = {"run": count_workload(corpus, recipe, 25)}, {"run": Needs()}
    found = estimate_runs(works, needs, store, HERE, no_steps)["run"]
    assert found.source == "record"
    other = Machine("NVIDIA L4", "x86_64", 1)
    measured = estimate_runs(works, needs, store, other, all_alike)["run"]
    assert measured.source == "step"
    assert measured.seconds == works["run"].estimate_seconds(STEP)


def test_a_teacher_reserves_the_share_that_a_step_shows_and_a_student_all(store, corpus):
    gpu = Machine("NVIDIA L4", "x86_64", 1)
    works = {
        "teacher": count_workload(corpus, RECIPES["demo_cpr"], 25),
        "student": count_workload(corpus, STUDENTS["demo_isotropic"], 25),
    }
    needs = dict.fromkeys(works, Needs(gpus=1.0))
    step = replace(STEP, gpu_share=0.25)
    found = estimate_runs(
        works, needs, store, gpu, lambda kinds: dict.fromkeys(kinds, step), shares=True
    )
    assert {name: each.needs.gpus for name, each in found.items()} == {
        "teacher": 0.25,
        "student": 1.0,
    }


def test_several_gpus_that_teach_one_teacher_share_its_steps(store, corpus):
    works = {"run": count_workload(corpus, RECIPES["demo_cpr"], 25)}
    gpu = Machine("NVIDIA L4", "x86_64", 1)
    found = estimate_runs(works, {"run": Needs(gpus=4)}, store, gpu, all_alike)
    assert found["run"].seconds == works["run"].estimate_seconds(STEP) / 4


def test_a_machine_of_ones_own_computes_on_what_this_one_has():
    assert find_machine(find_price("laptop"), 1) == HERE
    assert find_machine(find_price("aws-g5-xlarge"), 1).accelerator == "NVIDIA A10G"
    assert find_machine(find_price("aws-m7i-2xlarge"), 1).accelerator is None


@pytest.fixture
def quick(monkeypatch):
    """Measuring takes no time and returns STEP."""
    for module in ("jobs.plan.dry_run", "jobs.plan.estimates", "jobs.trials.estimates"):
        monkeypatch.setattr(
            f"{module}.measure_steps_here", lambda paces, threads: dict.fromkeys(paces, STEP)
        )


@pytest.mark.usefixtures("quick")
def test_a_plan_fits_80_columns_and_says_what_it_costs(tmp_path, corpus, capsys):
    options = TeachersOptions(
        store=str(tmp_path), recipes=("mn05_as_dir_fms",), machine="aws-g5-xlarge", dry_run=True
    )
    found = plan_teachers(options, corpus, LogitStore(tmp_path))
    show_plan(found.tasks, LogitStore(tmp_path), found.find_corpus, options)
    printed = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in printed.splitlines()[:8]) <= 80
    assert printed.count("to do  ") == 5
    assert "5 runs to do, together" in printed
    assert "USD on demand on aws-g5-xlarge" in printed
    assert "0 by records of runs on NVIDIA A10G, 5 by steps on" in printed
    assert "WARNING: that is not NVIDIA A10G" in printed
    assert "decoded audio: 0.05 GB" in printed


@pytest.mark.usefixtures("quick")
def test_on_a_machine_of_ones_own_money_is_said_to_be_0(tmp_path, corpus, capsys):
    options = StudentsOptions(store=str(tmp_path), no_teacher=True, splits=(25,), dry_run=True)
    store = LogitStore(tmp_path)
    tasks = plan_students(options, corpus, store, {25: None})
    show_plan(tasks, store, lambda task: corpus, options)
    printed = capsys.readouterr().out
    assert "money: 0.00 USD: laptop is a machine of your own" in printed
    assert "RAM on a device: isotropic_alone takes 100,000 bytes in int8" in printed
    assert "WARNING" not in printed


@pytest.mark.usefixtures("quick")
def test_trials_are_summed(store, corpus, capsys):
    recipe = STUDENTS["demo_isotropic"]
    show_trials(7, recipe, corpus, store, SearchOptions(split=25, epochs=3, gpus_per_run=0))
    work = count_workload(corpus, shorten(recipe, 3), 25, n_views=0)
    seconds = 7 * work.estimate_seconds(STEP)
    printed = capsys.readouterr().out
    assert f"7 runs to do, together {format_duration(seconds)} at most" in printed
    assert "RAM on a device: demo_isotropic takes 100,000 bytes in int8" in printed
    assert printed.count("to do  ") == 1


def test_a_race_trains_the_better_half_again():
    assert count_students(5, 3) == 5 + 3 + 2
    assert count_students(2, 3) == 6


@pytest.mark.usefixtures("quick")
def test_a_budget_knows_what_runs_are_expected_to_take(tmp_path, corpus):
    options = TeachersOptions(
        store=str(tmp_path),
        recipes=("demo_cpr",),
        splits=(25,),
        budget=1,
        machine="aws-m7i-2xlarge",
    )
    found = plan_teachers(options, corpus, LogitStore(tmp_path))
    spending = plan_spending(
        options, found.tasks, LogitStore(tmp_path), found.find_corpus, FakeWorkers(), Needs(cpus=1)
    )
    (task,) = found.tasks
    seconds = find_workload(task.work, corpus, LogitStore(tmp_path)).estimate_seconds(STEP)
    spending.start(task)
    expected = find_price("aws-m7i-2xlarge").find_cost(Needs(cpus=1), seconds, spot=False)
    assert spending.committed == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "is_shared", "message"),
    [
        ({"budget": 5}, True, "say what its machines are with --machine NAME"),
        ({"budget": 5, "machine": "abacus"}, False, "has no machine abacus"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(tmp_path, corpus, options, is_shared, message):
    with pytest.raises(UserError, match=message):
        plan_spending(
            TeachersOptions(**options),
            [],
            LogitStore(tmp_path),
            lambda task: corpus,
            FakeWorkers(is_shared=is_shared),
            Needs(),
        )


def test_without_a_budget_nothing_is_measured(tmp_path, corpus):
    found = planned(tmp_path)
    workers = FakeWorkers()
    spending = plan_spending(
        found.options, found.tasks, found.store, found.find_corpus, workers, Needs()
    )
    assert spending is None


def test_the_large_splits_come_first_and_recipes_with_a_first_stage_wait_for_it(tmp_path):
    sit = planned(
        tmp_path,
        recipes=("passt_sit", "demo_cpr"),
        first_corpus="demo",
        first_length="native",
        splits=(5, 50),
    )
    assert [task.keys[0].split for task in sit.tasks] == [50, 50, 5, 5]
    (first,) = sit.first.values()
    assert [task.name for task in sit.find_ready()] == [
        "passt_sit_first split 100 seed 0",
        "demo_cpr split 50 seed 0",
        "demo_cpr split 5 seed 0",
    ]
    assert [task.name for task in sit.follow(Outcome(first))] == [
        "passt_sit split 50 seed 0",
        "passt_sit split 5 seed 0",
    ]
    assert list(sit.follow(Outcome(sit.tasks[1]))) == []


def test_durations_read_as_people_say_them():
    assert [format_duration(s) for s in (3, 89, 600, 7200)] == ["3 s", "89 s", "10 min", "2.0 h"]


def test_one_run_is_a_run_and_all_other_numbers_are_runs():
    assert [format_count(n, "run") for n in (0, 1, 2000)] == ["0 runs", "1 run", "2,000 runs"]
