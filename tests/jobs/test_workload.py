"""How much each kind of training work has to do."""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import get_args
from unittest.mock import ANY

import numpy as np
import pytest

from audio.corpora import demo
from jobs.plan.workload import count_recorded_clips, count_workload, find_workload
from jobs.worker.train import Distill, FineTune, Quantise, Specialise, TrainingWork
from jobs.worker.where import Where
from logit_store import LogitKey
from students import RECIPES as STUDENTS
from students.devices import find_known_devices
from students.recipe import Int8Recipe
from students.stages import DeviceStage
from teachers import RECIPES as TEACHERS
from teachers import TeacherRun

WHERE = Where("demo", None, "/nowhere")
TEACHER, STUDENT = TEACHERS["demo_cpr"], STUDENTS["demo_isotropic"]
IN_INT8 = Int8Recipe(epochs=2)
WORKS = [
    FineTune(
        teacher=TeacherRun(recipe=TEACHER, split=25, protocol="published"),
        where=WHERE,
        responses=None,
        n_views=3,
    ),
    Distill(
        recipe=STUDENT, where=WHERE, split=50, seed=0, responses=None, taught_by=None, n_views=2
    ),
    Specialise(
        general=Distill(
            recipe=STUDENT, where=WHERE, split=25, seed=0, responses=None, taught_by=None
        ),
        stage=DeviceStage(epochs=3),
    ),
    Quantise(
        start=LogitKey("demo", 100, "demo_isotropic-0123456789ab"),
        settings=IN_INT8,
        where=WHERE,
        responses=None,
    ),
]


@pytest.fixture(scope="module")
def corpus():
    return demo.read()


@pytest.fixture
def store():
    """A store with the record of one student."""
    recipe = json.loads(json.dumps(asdict(STUDENT)))
    record = {"kind": "student", "recipe": recipe, "protocol": "honest"}
    return SimpleNamespace(read_record=lambda key: record)


def test_each_kind_of_training_work_has_a_workload(corpus, store):
    assert tuple(map(type, WORKS)) == get_args(TrainingWork)
    in_int8 = replace(STUDENT, training=IN_INT8.make_training(STUDENT))
    assert [find_workload(work, corpus, store) for work in WORKS] == [
        count_workload(corpus, TEACHER, 25, protocol="published", n_views=3),
        count_workload(corpus, STUDENT, 50, n_views=2),
        ANY,
        count_workload(corpus, in_int8, 100, in_int8=True),
    ]


def test_networks_per_device_learn_the_clips_of_known_devices_after_the_general_student(
    corpus, store
):
    general, whole = (find_workload(work, corpus, store) for work in (WORKS[2].general, WORKS[2]))
    devices, counts = np.unique(
        corpus.column("recording_device")[corpus.rows(25, "fit")], return_counts=True
    )
    assert list(devices[counts > 1]) == list(find_known_devices(corpus, 25))
    assert whole.n_learnt == general.n_learnt + 3 * counts[counts > 1].sum()
    record = {
        "recipe": json.loads(json.dumps(asdict(STUDENT))),
        "protocol": "honest",
        "per_device": {"max_steps": None},
        "parts": [{"epochs": 3, "clips": int(n)} for n in counts[counts > 1]],
    }
    assert count_recorded_clips(record, corpus, 25) == whole.n_learnt - general.n_learnt


def test_further_training_in_int8_takes_its_own_epochs(corpus, store):
    found = find_workload(WORKS[-1], corpus, store)
    n_epoch = STUDENT.training.clips_per_epoch or len(corpus.rows(100, "fit"))
    assert (found.n_learnt, found.pace.in_int8) == (2 * n_epoch, True)


def test_cross_fitted_models_learn_all_parts_but_one_each_and_all_predict(corpus):
    # So many steps that the clips of an epoch count, not the steps.
    recipe = replace(TEACHER, training=replace(TEACHER.training, clips_per_epoch=None))
    one = count_workload(corpus, recipe, 100)
    five = count_workload(corpus, recipe, 100, cross_fit=5)
    n_fit = len(corpus.rows(100, "fit"))
    assert one.n_learnt == recipe.training.max_epochs * n_fit
    assert five.n_learnt == 5 * recipe.training.max_epochs * (n_fit - n_fit // 5)
    assert (five.n_judged, five.n_models) == (5 * one.n_judged, 5)
    logits_bytes = one.count_stored_bytes(0)
    assert five.count_stored_bytes(1000) == logits_bytes + 5 * 1000


def test_a_cross_fitted_teachers_record_counts_the_clips_of_all_its_models(corpus):
    training = asdict(replace(TEACHER.training, clips_per_epoch=None))
    record = {"protocol": "honest", "epochs": 4, "recipe": {"training": training}}
    n_fit = len(corpus.rows(25, "fit"))
    assert count_recorded_clips(record, corpus, 25) == 4 * n_fit
    parts = [{"epochs": 4}, {"epochs": 3}]
    record |= {"cross_fit": 2, "parts": parts}
    assert count_recorded_clips(record, corpus, 25) == 7 * (n_fit - n_fit // 2)
