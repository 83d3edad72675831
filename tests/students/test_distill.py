from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny import FRONT_END, RECIPE, tiny_feed
from tiny_student import CPU, TINY_STUDENT, make_teacher_logits
from torch.nn import functional

from students import (
    RECIPES,
    Challenge,
    Decoupled,
    Dist,
    Distillation,
    Mixup,
    TeacherLogits,
    build,
    drop_teachers,
)
from students.distill import distill
from students.keys import make_student_key
from students.objective import DistillationObjective
from training import Batch, Ema, Soup

TINY = replace(
    TINY_STUDENT,
    # Not the best epoch: by true labels that is the first one, where teachers contradict them.
    training=replace(RECIPE, max_epochs=15, peak_learning_rate=1e-2, keep="last"),
    device_loss_weight=0.025,
)


def test_a_student_follows_its_teachers_rather_than_the_labels(corpus, store):
    # Teachers that call every bus a park: a student with 2 % hard labels must do so too.
    soft = make_teacher_logits(corpus, [0, 2, 2])
    key = distill(TINY, corpus, 100, 0, store, soft, responses=None, device=CPU)
    buses = np.intersect1d(corpus.rows(100, "test"), np.flatnonzero(corpus.labels() == 1))
    assert (store.read([key])[0][buses].argmax(1) == 2).mean() > 0.7


def test_a_student_without_teachers_learns_the_labels(corpus, store):
    key = distill(drop_teachers(TINY), corpus, 100, 0, store, None, responses=None, device=CPU)
    rows = corpus.rows(100, "test")
    assert (store.read([key])[0][rows].argmax(1) == corpus.labels()[rows]).mean() > 0.7
    record = store.read_record(key)
    assert record["kind"] == "student"
    assert record["ensemble"] is None
    assert record["params"] > 0
    assert "ram" not in record


def test_a_stored_student_is_not_trained_again(corpus, store):
    recipe = replace(drop_teachers(TINY), training=replace(RECIPE, max_epochs=1))
    epochs = []
    for _ in range(2):
        distill(
            recipe, corpus, 100, 0, store, None, responses=None, device=CPU, on_epoch=epochs.append
        )
    assert len(epochs) == 1


def test_the_discriminators_gradient_is_reversed_in_the_features(corpus, tmp_path):
    recipe = replace(drop_teachers(TINY), device_loss_weight=1.0)
    feed = tiny_feed(corpus, tmp_path / "cache")
    rows_B = corpus.rows(100, "fit")[:8]
    inputs = torch.randn(
        8, *FRONT_END.compute_shape(8_000), generator=torch.Generator().manual_seed(0)
    )
    labels_B = torch.from_numpy(corpus.labels()[rows_B])
    batch = Batch(inputs, labels_B, rows_B, progress=0.5)

    def objective_of(weight):
        torch.manual_seed(0)
        student = build(recipe.model, n_classes=3, **recipe.arguments)
        weighed = replace(recipe, device_loss_weight=weight)
        return DistillationObjective(weighed, student, feed, 100, None)

    gradients = {}
    for weight in (0.0, 1.0):
        objective = objective_of(weight)
        objective.compute_loss(batch).backward()
        gradients[weight] = objective.student.get_parameter("model.0.weight").grad.clone()
    # The same device loss without reversal, on the same weights.
    objective = objective_of(1.0)
    features_BD = objective.student.features(inputs)
    devices_B = objective.device_N[rows_B]
    functional.cross_entropy(objective.discriminator(features_BD), devices_B).backward()
    straight = objective.student.get_parameter("model.0.weight").grad
    # Reversal strength at half of the run: 2 / (1 + exp(-5)) - 1.
    expected = gradients[0.0] - 0.9866143 * straight
    torch.testing.assert_close(gradients[1.0], expected, rtol=1e-3, atol=1e-5)


def test_a_student_is_a_member_and_teaches_the_next_one(corpus, store):
    soft = make_teacher_logits(corpus, [0, 2, 2])
    first = distill(TINY, corpus, 100, 0, store, soft, responses=None, device=CPU)
    assert store.members("tau")["kind"].to_pylist() == ["student"]
    taught = TeacherLogits(first.member, store.read([first])[0])
    second = distill(TINY, corpus, 100, 1, store, taught, responses=None, device=CPU)
    assert store.read_record(second)["ensemble"] == first.member
    # What only its teacher can have told it: that there are no buses.
    buses = np.intersect1d(corpus.rows(100, "test"), np.flatnonzero(corpus.labels() == 1))
    assert (store.read([second])[0][buses].argmax(1) == 1).mean() < 0.3


def test_every_way_of_learning_takes_a_run_from_start_to_end(corpus, store):
    once = replace(RECIPE, max_epochs=2, keep=Ema(decay=0.9))
    ways = {
        "challenged": {"distillation": None, "challenge": Challenge()},
        "challenged_distilled": {"challenge": Challenge()},
        "mixed": {"mixup": Mixup()},
        "dist": {"distillation": Distillation(loss=Dist()), "mixup": Mixup()},
        "dkd": {"distillation": Distillation(loss=Decoupled(), standardized=True)},
        "confident": {"distillation": Distillation(confident=True)},
        "soup": {"training": replace(once, keep=Soup(epochs=2))},
    }
    for name, settings in ways.items():
        recipe = replace(TINY, name=name, **{"training": once} | settings)
        soft = make_teacher_logits(corpus, [0, 1, 2]) if recipe.distillation else None
        key = distill(recipe, corpus, 100, 0, store, soft, responses=None, device=CPU)
        assert np.isfinite(store.read([key])).all()


def test_a_recipe_that_distils_refuses_to_run_without_an_ensemble_and_the_reverse(corpus):
    with pytest.raises(ValueError, match="a student that distils needs an ensemble"):
        make_student_key(TINY, corpus, 100, 0, None, None)
    with pytest.raises(ValueError, match="one alone takes none"):
        make_student_key(drop_teachers(TINY), corpus, 100, 0, None, "stepwise-0")


def test_a_student_of_two_tasks_is_refused_for_scenes_without_groups(corpus):
    recipe = replace(drop_teachers(TINY), model="dsmn_model1", arguments={}, two_tasks=True)
    strange = replace(corpus, table=_renamed(corpus.table, "beach"))
    with pytest.raises(ValueError, match="scenes beach are in no group"):
        make_student_key(recipe, strange, 100, 0, None, None)


def _renamed(table, scene):
    scenes = [scene if each == "bus" else each for each in table["scene"].to_pylist()]
    return table.set_column(table.column_names.index("scene"), "scene", pa.array(scenes))


def test_the_published_preset_averages_over_classes_and_ours_over_the_batch():
    published, ours = RECIPES["isotropic_ascdomain"], RECIPES["isotropic"]
    assert published.distillation.reduction == "element_mean"
    assert ours.distillation.reduction == "batch_mean"
    assert replace(ours, name="", distillation=None) == replace(
        published, name="", distillation=None
    )
