from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audio.corpora import demo
from jobs.estimates import Kind, run_seconds
from jobs.tables import duration
from jobs.teacher_runs import TeachersOptions, plan
from logit_store import LogitStore
from teachers import RECIPES, build
from teachers.dry_step import DryStep, dry_step, training_bytes


def planned(tmp_path: Path, **options):
    chosen = TeachersOptions(store=str(tmp_path), **options)
    return plan(chosen, demo.read(), LogitStore(tmp_path))


def test_a_dry_step_measures_training_and_prediction():
    measured = dry_step(RECIPES["demo_cpr"], 8, 1.0, torch.device("cpu"))
    assert measured.train_clip_s > 0
    assert measured.predict_clip_s > 0
    assert measured.gpu_share is None


def test_the_memory_of_a_run_grows_with_its_batch_and_holds_its_optimiser():
    recipe = RECIPES["demo_cpr"]

    def needed(batch_size):
        training = replace(recipe.training, batch_size=batch_size)
        return training_bytes(replace(recipe, training=training), 8, 1.0)

    few, more, most = needed(16), needed(1016), needed(2016)
    # The process's own peak may grow in between: some megabytes of some hundreds.
    assert most - more == pytest.approx(more - few, rel=0.1)
    model = build("cpr_128", n_classes=8, weights="none")
    shape = recipe.front_end.shape(32_000)
    first_layer = model.get_submodule("in_c.0")(torch.zeros(1, *shape))
    # What a convolution and its normalisation leave for the backward pass, at the very least.
    assert more - few > 1000 * first_layer.numel() * 4


def test_a_run_takes_as_long_as_its_clips(tmp_path):
    (task,) = planned(tmp_path, recipes=("mn04_as_dir_fms",), splits=(25,), views=3).tasks
    corpus = demo.read()
    dry = DryStep(train_clip_s=0.1, predict_clip_s=0.01, gpu_share=None)
    n_fit, n_select = (len(corpus.rows(25, fold)) for fold in ("fit", "select"))
    expected = 150 * (0.1 * n_fit + 0.01 * n_select) + 3 * 0.01 * len(corpus)
    assert run_seconds(task, corpus, dry) == pytest.approx(expected)


def test_a_run_with_a_last_step_takes_no_longer_than_that(tmp_path):
    (task,) = planned(tmp_path, recipes=("demo_cpr",), splits=(100,), max_steps=3).tasks
    dry = DryStep(train_clip_s=1.0, predict_clip_s=0.0, gpu_share=None)
    assert run_seconds(task, demo.read(), dry) == 3 * 16


def test_runs_that_do_the_same_work_are_measured_once(tmp_path):
    corpus = demo.read()
    tasks = planned(tmp_path).tasks
    assert len(tasks) == 110
    kinds = {Kind.of(task, corpus).name for task in tasks}
    assert len(kinds) == 7  # the architectures


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
    assert [task.name for task in sit.ready()] == [
        "passt_sit_first split 100 seed 0",
        "demo_cpr split 50 seed 0",
        "demo_cpr split 5 seed 0",
    ]
    from jobs.fanout import Outcome

    assert [task.name for task in sit.follow(Outcome(first))] == [
        "passt_sit split 50 seed 0",
        "passt_sit split 5 seed 0",
    ]
    assert sit.follow(Outcome(sit.tasks[1])) == []


def test_durations_read_as_people_say_them():
    assert [duration(s) for s in (3, 89, 600, 7200)] == ["3 s", "89 s", "10 min", "2.0 h"]
