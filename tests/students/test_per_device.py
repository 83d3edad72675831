"""A network for each known recording device, beside the general student (N clips, K classes)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import RECIPE
from tiny_student import CPU, TINY_STUDENT, make_teacher_logits, open_store

from audio.errors import CorpusError
from audio.parts import leave_out
from logit_store.paths import logits_path
from students import NoStudent, drop_teachers, per_device
from students.devices import find_known_devices
from students.distill import distill
from students.int8 import train_in_int8
from students.per_device import keep_device, load_device_students, specialise
from students.recipe import Int8Recipe
from students.stages import DeviceStage
from students.stored import load_student

SPLIT = 100
STAGE = DeviceStage(epochs=2)
SHORT = replace(TINY_STUDENT, training=replace(RECIPE, max_epochs=2))


@pytest.fixture(scope="module")
def made(tmp_path_factory, corpus):
    """A store with a general student and its networks per device, and the keys of both."""
    with open_store(tmp_path_factory.mktemp("made"), corpus) as store:
        soft = make_teacher_logits(corpus)
        general = distill(SHORT, corpus, SPLIT, 0, store, soft, responses=None, device=CPU)
        yield store, general, taught(general, corpus, store)


def taught(general, corpus, store):
    return specialise(general, STAGE, corpus, store, responses=None, device=CPU)


def test_each_clip_is_predicted_by_the_network_of_its_device_and_others_by_the_general_one(
    made, corpus
):
    store, general, key = made
    general_NK, joined_NK = store.read([general, key])
    known = np.isin(corpus.column("recording_device"), find_known_devices(corpus, SPLIT))
    assert set(corpus.column("recording_device")[~known]) == {"s4"}
    np.testing.assert_array_equal(joined_NK[~known], general_NK[~known])
    assert (joined_NK[known] != general_NK[known]).any(axis=1).all()


def test_the_record_names_the_devices_and_the_general_student_as_teacher(made, corpus):
    store, general, key = made
    record, before = store.read_record(key), store.read_record(general)
    assert record["start"] == record["ensemble"] == general.member
    assert record["per_device"]["devices"] == ["a", "b", "s1"]
    assert [(each["recording_device"], each["epochs"]) for each in record["parts"]] == [
        ("a", 2),
        ("b", 2),
        ("s1", 2),
    ]
    fit = corpus.column("recording_device")[corpus.rows(SPLIT, "fit")]
    assert [each["clips"] for each in record["parts"]] == [
        (fit == name).sum() for name in ("a", "b", "s1")
    ]
    assert {name: record[name] for name in ("recipe", "macs", "params", "seed")} == {
        name: before[name] for name in ("recipe", "macs", "params", "seed")
    }
    assert key.member.startswith("tiny_per_device-")


def test_its_networks_come_out_of_the_store_as_they_went_in(made, corpus):
    store, general, key = made
    loaded = load_device_students(store, key, 3)
    assert set(loaded.by_device) == {"a", "b", "s1"}
    assert loaded.find("s4") is loaded.general is loaded.find("unknown")
    whole = load_device_students(store, general, 3)
    for name, tensor in load_student(store, general, 3).student.state_dict().items():
        assert torch.equal(tensor, loaded.general.state_dict()[name])
        assert torch.equal(tensor, whole.find("a").state_dict()[name])
    assert not torch.equal(
        loaded.find("a").state_dict()["model.0.weight"],
        loaded.find("b").state_dict()["model.0.weight"],
    )


def test_a_network_learns_no_clip_of_another_device(corpus):
    kept = keep_device(corpus, SPLIT, "b")
    for fold in ("fit", "select"):
        assert set(kept.column("recording_device")[kept.rows(SPLIT, fold)]) == {"b"}
    np.testing.assert_array_equal(kept.rows(SPLIT, "test"), corpus.rows(SPLIT, "test"))
    assert len(kept) == len(corpus)


def test_without_select_clips_of_a_device_those_of_all_devices_show_how_its_run_goes(corpus):
    select, is_b = corpus.rows(SPLIT, "select"), corpus.column("recording_device") == "b"
    left_out_N = np.zeros(len(corpus), bool)
    left_out_N[select] = is_b[select]
    without = leave_out(corpus, SPLIT, left_out_N)
    others = without.rows(SPLIT, "select")
    assert len(others) > 0
    np.testing.assert_array_equal(keep_device(without, SPLIT, "b").rows(SPLIT, "select"), others)


def test_a_stage_that_was_interrupted_trains_only_the_networks_that_are_missing(
    made, corpus, monkeypatch
):
    store, general, key = made
    folder = f"students/v1/{key.member}/part_2"
    logits_NK = store.read([key])[0]
    weights = store.objects.read(f"{folder}/weights.safetensors")
    Path(store.objects.locate(f"{folder}/record.json")).unlink()
    Path(store.files.locate(logits_path(key))).unlink()
    trained, train = [], per_device.train_part
    monkeypatch.setattr(
        per_device,
        "train_part",
        lambda run, keep, part, *rest: (trained.append(part), train(run, keep, part, *rest)),
    )
    assert taught(general, corpus, store) == key
    assert trained == [1]
    assert store.objects.read(f"{folder}/weights.safetensors") == weights
    np.testing.assert_array_equal(store.read([key])[0], logits_NK)


def test_a_network_begins_as_the_general_student(made, corpus, monkeypatch):
    store, general, _ = made
    begun = []

    def stop(run, student, *rest):
        begun.append(student.state_dict())
        raise InterruptedError

    monkeypatch.setattr(per_device, "train_part", stop)
    stage = replace(STAGE, epochs=1)
    with pytest.raises(InterruptedError):
        specialise(general, stage, corpus, store, responses=None, device=CPU)
    expected = load_student(store, general, len(corpus.scenes)).student.state_dict()
    torch.testing.assert_close(begun[0], expected, rtol=0, atol=0)


def test_a_stage_keeps_the_sound_of_a_device_and_teaches_by_labels_too():
    recipe = STAGE.make_recipe(drop_teachers(replace(SHORT, device_loss_weight=0.5)))
    assert recipe.augmentation.impulse_response_probability == 0
    assert recipe.distillation.hard_label_weight == 0.5
    assert (recipe.device_loss_weight, recipe.training.keep) == (0, "last")
    assert recipe.training.peak_learning_rate == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"rate_factor": 2}, "rate_factor=2"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"hard_label_weight": 1}, "hard_label_weight=1"),
    ],
)
def test_a_stage_with_a_value_out_of_range_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        DeviceStage(**wrong)


def test_what_needs_one_network_refuses_it_and_names_the_general_student(made, corpus):
    store, general, key = made
    with pytest.raises(NoStudent, match=f"a, b, s1: name its general student, {general.member}"):
        load_student(store, key, 3)
    with pytest.raises(ValueError, match=f"name its general student, {general.member}"):
        train_in_int8(key, Int8Recipe(), corpus, store, None, responses=None, device=CPU)


def test_a_corpus_of_one_recording_device_is_refused(corpus):
    alone = replace(
        corpus,
        table=corpus.table.set_column(
            corpus.table.column_names.index("recording_device"),
            "recording_device",
            [["a"] * len(corpus)],
        ),
    )
    with pytest.raises(CorpusError, match="known recording devices a .* expected two or more"):
        find_known_devices(alone, SPLIT)
