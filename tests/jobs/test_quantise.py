"""Which students are quantised, and which are refused beforehand."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from tiny import AUGMENTATION, FRONT_END, RECIPE, tiny_corpus

from jobs.quantise import QuantiseOptions, find_students, main, plan_quantising
from jobs.worker import train
from jobs.worker.teacher_logits import read_teacher_logits
from logit_store import LogitKey, LogitStore, MissingEnsemble, MissingLogits
from students import Distillation, StudentRecipe
from students.distill import distill
from terminal.console import UserError

TAUGHT = StudentRecipe(
    name="tiny",
    model="isotropic",
    arguments={"filters": 8, "depth": 1, "patch": 4},
    front_end=FRONT_END,
    augmentation=AUGMENTATION,
    training=replace(RECIPE, max_epochs=1, max_steps=2),
    distillation=Distillation(),
    device_loss_weight=0.0,
)
TEACHER = "wise-0123456789ab"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def store(tmp_path_factory, corpus):
    """A store with a teacher and the students of two seeds that it taught."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_CACHE", str(folder / "cache"))
        patch.setattr(train, "find_reserved_device", lambda: torch.device("cpu"))
        store = LogitStore(folder / "store")
        store.write_clips("tau", corpus.clips_table())
        teacher = LogitKey("tau", 100, TEACHER)
        store.write(teacher, 6 * np.eye(3)[corpus.labels()], {"kind": "teacher"})
        soft = read_teacher_logits(store, "tau", 100, TEACHER, None)
        for seed in (0, 1):
            distill(
                *(TAUGHT, corpus, 100, seed, store, soft),
                responses=None,
                device=torch.device("cpu"),
                ram=100_000,
            )
        yield store


def options(corpus, store, **changes):
    asked = {"student": "tiny", "splits": (100,), "max_steps": 2, "learning_rate": 1e-3}
    return QuantiseOptions(
        corpus="tau", root=str(corpus.root), store=store.address, **(asked | changes)
    )


def planned(corpus, store, **changes):
    chosen = options(corpus, store, **changes)
    return plan_quantising(chosen, corpus, store, find_students(chosen, "tau", store))


def test_all_students_of_a_name_are_quantised_each_with_its_own_seed(corpus, store):
    tasks = planned(corpus, store)
    assert {task.name for task in tasks} == {f"tiny_int8 split 100 seed {n}" for n in (0, 1)}
    assert len({key for task in tasks for key in task.keys}) == 2
    assert [task.name for task in planned(corpus, store, seeds=(1,))] == [
        "tiny_int8 split 100 seed 1"
    ]
    member = tasks[0].work.start.member
    assert [task.keys for task in planned(corpus, store, student=member)] == [tasks[0].keys]
    assert len(planned(corpus, store, splits=("all",))) == 2


def test_a_task_trains_the_student_and_can_run_twice(corpus, store):
    task = planned(corpus, store, seeds=(0,))[0]
    for _ in range(2):
        assert task.work.run() == task.keys[0]
    record = store.read_record(task.keys[0])
    assert record["quantised_from"] == task.work.start.member
    assert record["ensemble"] == TEACHER
    assert record["ram"] == store.read_record(task.work.start)["ram"] == 100_000
    assert record["quantisation"]["max_steps"] == 2
    assert record["quantisation"]["learning_rate"] == 1e-3
    with pytest.raises(UserError, match="was fine-tuned in int8 already: name tiny-"):
        planned(corpus, store, student="tiny_int8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": "nobody"}, "no student has this name in split 100"),
        ({"student": "wise"}, "no student has this name in split 100"),
        ({"splits": (25, 100)}, "no student has this name in split 25;"),
        ({"splits": ("all",), "student": "nobody"}, "in split 5, 10, 25, 50, 100"),
        ({"seeds": (7,)}, "no student of seeds 7 has this name"),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_runs(corpus, store, changes, message):
    with pytest.raises(UserError, match=message):
        planned(corpus, store, **changes)


def test_other_impulse_responses_are_refused(corpus, store, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(10), 8_000)
    with pytest.raises(UserError, match="trained with the impulse responses synthetic-"):
        planned(corpus, store, impulse_responses=tmp_path)


@pytest.mark.parametrize(
    ("taught_by", "error"), [("gone-0123456789ab", MissingLogits), ("gone@0123", MissingEnsemble)]
)
def test_a_teacher_that_is_gone_is_named_before_anything_runs(
    corpus, store, monkeypatch, taught_by, error
):
    original = LogitStore.read_record
    monkeypatch.setattr(
        LogitStore, "read_record", lambda self, key: original(self, key) | {"ensemble": taught_by}
    )
    with pytest.raises(error, match="gone"):
        planned(corpus, store)


def test_a_dry_run_shows_the_runs_and_makes_none(corpus, store, capsys):
    before = store.keys()
    assert main(options(corpus, store, epochs=7, dry_run=True)) == 0
    printed = capsys.readouterr().out
    assert "tiny_int8 split 100 seed 1" in printed
    assert printed.count("RAM on a device: tiny takes 100,000 bytes in int8") == 1
    assert store.keys() == before
