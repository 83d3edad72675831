"""A stored student is fine-tuned in int8 and becomes a member of its own."""

import json
import shutil
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny import FRONT_END, RECIPE
from tiny_student import CPU, TINY_STUDENT, make_teacher_logits, open_store

from audio.feed import Feed
from audio.views import Augmentation
from logit_store import LogitKey, LogitStore
from metrics import log_loss
from students import (
    RECIPES,
    Challenge,
    Mixup,
    int8,
    stored,
)
from students.distill import distill
from students.errors import NoStudent
from students.int8 import simulate_int8, train_in_int8
from students.keys import make_int8_key
from students.quantise import ActivationRange
from students.recipe import MOVING_SHARE, Int8Recipe
from training import predict

TAUGHT = replace(
    TINY_STUDENT,
    training=replace(RECIPE, max_epochs=8, keep="last"),
    device_loss_weight=0.025,
)
SETTINGS = Int8Recipe(epochs=5, learning_rate=1e-3)
DELTAS = replace(FRONT_END, mel_bands=32, hop_samples=200, delta=True)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def soft(corpus):
    return make_teacher_logits(corpus)


@pytest.fixture(scope="module")
def store(tmp_path_factory, corpus):
    with open_store(tmp_path_factory.mktemp("store"), corpus) as store:
        yield store


@pytest.fixture(scope="module")
def start(store, corpus, soft):
    return distill(TAUGHT, corpus, 100, 3, store, soft, responses=None, device=CPU)


def go_on(store, corpus, start, soft, settings=SETTINGS, **options):
    return train_in_int8(
        start, settings, corpus, store, soft, responses=None, device=CPU, **options
    )


@pytest.fixture(scope="module")
def learnt(store, corpus, start, soft):
    """The key of the fine-tuned student, and its ranges after each step."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        original = int8.move_ranges

        def noted(model, moving):
            original(model, moving)
            seen.append((moving, ranges_of(model)))

        patch.setattr(int8, "move_ranges", noted)
        return go_on(store, corpus, start, soft), seen


def ranges_of(model):
    return [float(each.high) for each in model.modules() if isinstance(each, ActivationRange)]


def feed_of(corpus):
    return Feed.open(corpus, FRONT_END, Augmentation(), None, CPU)


def test_it_is_a_member_of_its_own_whose_record_names_its_start(store, start, learnt):
    key, record = learnt[0], store.read_record(learnt[0])
    assert key.member.startswith("tiny_int8-")
    assert key.split == start.split
    assert record["quantised_from"] == start.member
    assert record["quantisation"] == asdict(SETTINGS) | {"input_shape": [1, 1, 24, 33]}
    before = store.read_record(start)
    for name in ("kind", "recipe", "seed", "ensemble", "responses", "macs", "params", "protocol"):
        assert record[name] == before[name]
    assert record["ensemble"] == "oracle"
    assert record["epochs"] == SETTINGS.epochs


def test_a_loaded_student_rounds_as_in_training(store, corpus, learnt):
    taken = stored.load_student(store, learnt[0], 3)
    assert taken.tuned_in_int8
    feed = feed_of(corpus)
    assert simulate_int8(taken, feed) is taken.student
    with torch.no_grad():
        logits_NK = taken.student(torch.cat(list(feed.iterate_batches(np.arange(len(corpus))))))
    # The store keeps float16: 11 bits.
    np.testing.assert_allclose(logits_NK, store.read([learnt[0]])[0], rtol=2**-11, atol=1e-6)


def test_fine_tuning_lowers_the_loss(store, corpus, start, learnt):
    feed, rows = feed_of(corpus), corpus.rows(100, "fit")
    before = simulate_int8(stored.load_student(store, start, 3), feed)
    after = stored.load_student(store, learnt[0], 3).student
    for name, value in before.state_dict().items():
        if name.endswith("weight"):
            assert not torch.equal(value, after.state_dict()[name])
    losses = [
        log_loss(predict(each, each, feed.iterate_batches(rows)), corpus.labels()[rows])
        for each in (before, after)
    ]
    assert losses[1] < losses[0]


def test_ranges_move_in_the_first_four_of_five_epochs_only(learnt):
    moving = [flag for flag, _ in learnt[1]]
    n_moving = round(MOVING_SHARE * len(moving))
    assert moving == [True] * n_moving + [False] * (len(moving) - n_moving)
    ranges = [each for _, each in learnt[1]]
    assert all(a != b for a, b in pairwise(ranges[:n_moving]))
    assert all(each == ranges[n_moving] for each in ranges[n_moving:])


def test_the_published_learning_rate_falls_on_a_line_to_a_tenth():
    training = Int8Recipe().make_training(RECIPES["cp_mobile_2023"])
    factors = [training.schedule.factor(10 * epoch, 10, 200) for epoch in range(20)]
    assert (training.max_epochs, training.peak_learning_rate) == (20, 5e-5)
    assert training.optimizer == "adam"
    assert training.head_learning_rate is None
    expected = [1.0, *np.linspace(1, 0.1, 17), 0.1, 0.1]
    assert factors == pytest.approx(expected)


def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    store, corpus, start, soft, tmp_path, monkeypatch
):
    settings = replace(SETTINGS, epochs=3)
    other = LogitStore(shutil.copytree(store.address, tmp_path / "other"))
    # A checkpoint after every step, however long that takes here.
    monkeypatch.setattr("training.checkpoint.SHARE_OF_TIME", 1e9)
    epochs = []

    def until_killed(metrics):
        epochs.append(metrics.epoch)
        if epochs == [1, 2]:
            raise Killed

    with pytest.raises(Killed):
        go_on(other, corpus, start, soft, settings, on_epoch=until_killed)
    resumed = go_on(other, corpus, start, soft, settings, on_epoch=until_killed)
    assert epochs == [1, 2, 3]
    assert go_on(store, corpus, start, soft, settings) == resumed
    found, expected = (
        stored.load_student(each, resumed, 3).student.state_dict() for each in (other, store)
    )
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_stored_student_is_not_fine_tuned_again(store, corpus, start, soft, learnt):
    epochs = []
    assert go_on(store, corpus, start, soft, on_epoch=epochs.append) == learnt[0]
    assert epochs == []


def test_settings_that_change_the_result_change_the_name(store, corpus, start):
    record = store.read_record(start)
    keys = [
        make_int8_key(each, record, settings, corpus, None)
        for each, settings in (
            (start, SETTINGS),
            (start, replace(SETTINGS, epochs=6)),
            (start, replace(SETTINGS, calibration_clips=9)),
            (replace(start, member="tiny-other"), SETTINGS),
        )
    ]
    assert len({key.member for key in keys}) == len(keys)


@pytest.mark.parametrize(
    "changed",
    [
        {"mixup": Mixup()},
        {"distillation": None, "challenge": Challenge(drop_features=0.3, drop_clips=0.3)},
        {
            "model": "dsmn_model3",
            "arguments": {"channels": (8, 8, 8, 8, 8)},
            "front_end": DELTAS,
            "distillation": None,
            "two_tasks": True,
        },
    ],
    ids=["mixup", "challenge", "two tasks"],
)
def test_every_way_of_learning_can_be_fine_tuned(store, corpus, soft, changed):
    taught = replace(TAUGHT, training=replace(TAUGHT.training, max_steps=1), **changed)
    by = soft if taught.distillation else None
    key = distill(taught, corpus, 100, 0, store, by, responses=None, device=CPU)
    after = go_on(store, corpus, key, by, Int8Recipe(max_steps=2))
    before = store.read([key])[0]
    assert np.abs(store.read([after])[0] - before).max() < 0.5 * np.abs(before).max()


def test_students_that_cannot_be_fine_tuned_are_refused(
    store, corpus, start, soft, learnt, tmp_path
):
    record = store.read_record(start)
    key, again = learnt[0], store.read_record(learnt[0])
    with pytest.raises(ValueError, match=f"was fine-tuned in int8 already: name {start.member}"):
        make_int8_key(key, again, SETTINGS, corpus, None)
    with pytest.raises(
        ValueError, match="trained with the impulse responses other, these are synt"
    ):
        make_int8_key(start, record | {"responses": "other"}, SETTINGS, corpus, None)
    with pytest.raises(ValueError, match="taught by oracle, not by None"):
        go_on(store, corpus, start, None, replace(SETTINGS, epochs=9))
    with pytest.raises(NoStudent, match=r"tau/100/big-1/0: its record is that of 'teacher'"):
        make_int8_key(LogitKey("tau", 100, "big-1"), {"kind": "teacher"}, SETTINGS, corpus, None)
    challenged = replace(RECIPES["isotropic_rsc"], model="bcbl8", challenge=Challenge())
    told = json.loads(json.dumps(asdict(challenged)))
    with pytest.raises(ValueError, match=r"Challenge\(.* needs a classifier of its own"):
        make_int8_key(start, record | {"recipe": told}, SETTINGS, corpus, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs=0, expected 1 or more"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"calibration_clips": 0}, "calibration_clips=0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0, expected a number above 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Int8Recipe(**settings)
