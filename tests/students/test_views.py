from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from tiny import AUGMENTATION, FRONT_END, RECIPE
from tiny_student import CPU, TINY_STUDENT

from audio import impulse_responses
from audio.feed import Feed
from audio.views import stored_views
from logit_store import LogitKey, MissingLogits
from students import Distillation, TeacherLogits, UnfitSoftLabels, check_views
from students.distill import distill
from students.stored import load_student
from teachers.finetune import finetune
from teachers.recipes import demo_mn
from teachers.run import TeacherRun
from training import list_view_keys

HEARD = stored_views(FRONT_END.sample_rate)
AUGMENTATION = replace(
    AUGMENTATION,
    max_roll_samples=HEARD.max_roll_samples,
    impulse_response_probability=HEARD.impulse_response_probability,
)
RECIPE_WITH_VIEWS = replace(
    TINY_STUDENT,
    augmentation=AUGMENTATION,
    training=replace(RECIPE, max_epochs=4, clips_per_epoch=16),
    distillation=Distillation(n_views=3),
)
MEMBER = LogitKey("tau", 100, "oracle-0123456789ab")
RECORD = {
    "kind": "teacher",
    "recipe": {
        "name": "oracle",
        "front_end": asdict(FRONT_END),
        "length": {"how": "native", "duration_s": None},
    },
    "view_augmentation": asdict(HEARD),
    "responses": impulse_responses.identify_responses(None),
}

AT_44_KHZ = {
    "sample_rate": 44_100,
    "length": {"how": "repeat", "duration_s": 2.3},
    "view_augmentation": asdict(stored_views(44_100)),
    # Embeddings of untouched clips serve probes with all impulse responses.
    "responses": "of another probe",
}


def probe(*backbones):
    """The record of a probe on backbones."""
    return {
        "kind": "teacher",
        "recipe": {"name": "probe_any", "backbones": ["any"]},
        "responses": RECORD["responses"],
        "backbones": list(backbones),
    }


def write_views(store, corpus, n_views, record=RECORD):
    """Write a member whose logits in view v are v for every class but the true one."""
    for key in list_view_keys(MEMBER, n_views):
        logits_NK = np.full((len(corpus), 3), float(key.view), np.float32)
        logits_NK[np.arange(len(corpus)), corpus.labels()] = 9
        store.write(key, logits_NK, record)


def with_recipe(**parts):
    return RECORD | {"recipe": RECORD["recipe"] | parts}


def test_a_student_sees_view_v_with_the_soft_labels_of_view_v(corpus, store, monkeypatch):
    write_views(store, corpus, 3)
    seen = []

    def training_batch(feed, rows_B, view, *rest):
        seen.append(view)
        return feed.make_view(rows_B, view)

    monkeypatch.setattr(Feed, "make_training_batch", training_batch)
    logits_VNK = store.read(list_view_keys(MEMBER, 3))
    soft = TeacherLogits(MEMBER.member, logits_VNK, (MEMBER,))
    distill(RECIPE_WITH_VIEWS, corpus, 100, 0, store, soft, responses=None, device=CPU)
    assert seen == [0, 0, 1, 1, 2, 2, 0, 0]


def test_a_teacher_trained_with_other_changes_stores_the_common_views(corpus, store):
    teacher = replace(
        demo_mn(),
        augmentation=replace(AUGMENTATION, max_roll_samples=0, impulse_response_probability=0.1),
        training=replace(RECIPE, max_epochs=1, max_steps=1),
    )
    key = finetune(
        TeacherRun(recipe=teacher, split=100), corpus, store, responses=None, device=CPU, n_views=3
    )
    check_views(RECIPE_WITH_VIEWS, (key,), store, None)


def test_a_student_stores_views_from_which_the_next_one_learns(corpus, store):
    write_views(store, corpus, 3)
    soft = TeacherLogits(MEMBER.member, store.read(list_view_keys(MEMBER, 3)), (MEMBER,))
    epochs = []

    def learn(seed, soft, n_views):
        return distill(
            RECIPE_WITH_VIEWS,
            corpus,
            100,
            seed,
            store,
            soft,
            responses=None,
            device=CPU,
            n_views=n_views,
            on_epoch=epochs.append,
        )

    first = learn(0, soft, 1)
    # Views that are asked for later are predicted by what was learnt, and nothing is learnt again.
    assert learn(0, soft, 3) == first
    assert len(epochs) == RECIPE_WITH_VIEWS.training.max_epochs
    views_VNK = store.read(list_view_keys(first, 3))
    student = load_student(store, first, 3).student
    feed = Feed.open(corpus, FRONT_END, HEARD, None, CPU)
    with torch.no_grad():
        for view, logits_NK in enumerate(views_VNK):
            inputs = feed.iterate_batches(np.arange(len(corpus)), view)
            expected_NK = torch.cat([student(each) for each in inputs]).numpy()
            # The store holds float16.
            np.testing.assert_allclose(logits_NK, expected_NK, rtol=1e-3, atol=1e-3)
    assert not np.array_equal(views_VNK[0], views_VNK[1])
    second = learn(1, TeacherLogits(first.member, views_VNK, (first,)), 1)
    assert store.read_record(second)["ensemble"] == first.member


def test_masks_and_mixing_may_differ_from_the_teachers(corpus, store):
    write_views(store, corpus, 3)
    other = replace(AUGMENTATION, max_masked_bands=2, mixstyle_probability=0.0)
    check_views(replace(RECIPE_WITH_VIEWS, augmentation=other), (MEMBER,), store, None)


def test_a_student_learns_views_from_a_probe_whose_networks_heard_them(corpus, store):
    write_views(store, corpus, 3, probe(AT_44_KHZ))
    check_views(RECIPE_WITH_VIEWS, (MEMBER,), store, None)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            RECORD | {"view_augmentation": asdict(replace(HEARD, max_roll_samples=400))},
            r"rolls by at most s 0\.05, the student 0\.1",
        ),
        (
            RECORD
            | {"view_augmentation": asdict(replace(HEARD, impulse_response_probability=0.0))},
            r"share with an impulse response 0\.0, the student 0\.6; impulse responses none",
        ),
        (RECORD | {"responses": "another"}, "impulse responses another, the student synthetic"),
        (
            with_recipe(length={"how": "crop", "duration_s": 0.5}),
            "random windows True, the student False",
        ),
        (
            probe(AT_44_KHZ, AT_44_KHZ | {"length": {"how": "crop", "duration_s": 0.5}}),
            "random windows True, the student False",
        ),
        (probe(AT_44_KHZ) | {"responses": "another"}, "impulse responses another, the student"),
        ({"kind": "teacher", "recipe": "imported"}, "does not say how the clips were changed"),
    ],
)
def test_a_teacher_that_was_given_another_sound_is_refused(corpus, store, record, message):
    write_views(store, corpus, 3, record)
    with pytest.raises(UnfitSoftLabels, match=f"oracle-0123456789ab.*{message}"):
        check_views(RECIPE_WITH_VIEWS, (MEMBER,), store, None)


def test_a_view_that_is_missing_is_named(corpus, store):
    write_views(store, corpus, 2)
    with pytest.raises(MissingLogits, match="tau/100/oracle-0123456789ab/2"):
        check_views(RECIPE_WITH_VIEWS, (MEMBER,), store, None)


def test_views_without_members_are_refused_before_training(corpus, store):
    soft = TeacherLogits("oracle", np.zeros((3, len(corpus), 3), np.float32))
    with pytest.raises(
        UnfitSoftLabels, match="learns from 3 stored views, but no members are named"
    ):
        distill(RECIPE_WITH_VIEWS, corpus, 100, 0, store, soft, responses=None, device=CPU)


def test_a_student_without_views_may_learn_from_members_that_have_none(corpus, store):
    check_views(replace(RECIPE_WITH_VIEWS, distillation=None), (MEMBER,), store, None)
    check_views(replace(RECIPE_WITH_VIEWS, distillation=Distillation()), (MEMBER,), store, None)
