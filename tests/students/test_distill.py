from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import AUGMENTATION, FRONT_END, RECIPE, tiny_corpus
from torch.nn import functional

from logit_store import LogitStore
from students import RECIPES, Distillation, Soft, StudentRecipe, alone, build, distill
from students.complexity import measure
from students.distill import _Objective, student_key
from training import Batch

TINY = StudentRecipe(
    name="tiny",
    model="isotropic",
    arguments={"filters": 8, "depth": 2, "patch": 4},
    front_end=FRONT_END,
    augmentation=AUGMENTATION,
    training=replace(RECIPE, max_epochs=15, peak_learning_rate=1e-2),
    distillation=Distillation(),
    device_loss_weight=0.025,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def store(tmp_path, corpus, monkeypatch):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    store = LogitStore(tmp_path / "store")
    store.write_clips("tau", corpus.clips_table())
    return store


def soft_labels(corpus, order):
    """Logits that say `order[label]` with some doubt."""
    one_hot = np.eye(3, dtype=np.float32)[np.asarray(order)[corpus.labels()]]
    return Soft("oracle", 6 * one_hot)


def objective_of(recipe, corpus, soft):
    class Feed:
        pass

    feed = Feed()
    feed.corpus = corpus
    torch.manual_seed(0)
    student = build(recipe.model, n_classes=3, **recipe.arguments)
    return _Objective(recipe, student, feed, 100, soft)


def batch_of(corpus, progress=0.0):
    rows_B = corpus.rows(100, "fit")[:8]
    inputs = torch.randn(8, *FRONT_END.shape(8_000), generator=torch.Generator().manual_seed(0))
    return Batch(inputs, torch.from_numpy(corpus.labels()[rows_B]), rows_B, progress)


def test_a_student_believes_its_teachers_rather_than_the_labels(corpus, store):
    # Teachers that call every bus a park: a student with 2 % hard labels must do so too.
    soft = soft_labels(corpus, [0, 2, 2])
    key = distill(TINY, corpus, 100, 0, store, soft, responses=None, device=CPU)
    buses = np.intersect1d(corpus.rows(100, "test"), np.flatnonzero(corpus.labels() == 1))
    assert (store.read([key])[0][buses].argmax(1) == 2).mean() > 0.7


def test_a_student_alone_learns_the_labels(corpus, store):
    key = distill(alone(TINY), corpus, 100, 0, store, None, responses=None, device=CPU)
    rows = corpus.rows(100, "test")
    assert (store.read([key])[0][rows].argmax(1) == corpus.labels()[rows]).mean() > 0.7
    record = store.record(key)
    assert record["kind"] == "student"
    assert record["ensemble"] is None
    assert record["params"] > 0


def test_what_is_in_the_store_is_not_taught_again(corpus, store):
    recipe = replace(alone(TINY), training=replace(RECIPE, max_epochs=1))
    epochs = []
    for _ in range(2):
        distill(
            recipe, corpus, 100, 0, store, None, responses=None, device=CPU, on_epoch=epochs.append
        )
    assert len(epochs) == 1


def test_the_loss_without_teachers_and_discriminator_is_cross_entropy(corpus):
    recipe = replace(alone(TINY), device_loss_weight=0.0)
    objective = objective_of(recipe, corpus, None)
    batch = batch_of(corpus)
    expected = functional.cross_entropy(objective.student(batch.inputs_BCFT), batch.labels_B)
    assert objective.loss(batch).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_discriminator_pushes_the_features_the_other_way(corpus):
    recipe = replace(alone(TINY), device_loss_weight=1.0)
    gradients = {}
    for weight in (0.0, 1.0):
        objective = objective_of(replace(recipe, device_loss_weight=weight), corpus, None)
        objective.loss(batch_of(corpus, progress=0.5)).backward()
        gradients[weight] = objective.student.model[0].weight.grad.clone()
    # The same device loss without reversal, on the same weights.
    objective = objective_of(recipe, corpus, None)
    batch = batch_of(corpus)
    devices_B = torch.from_numpy(objective.device_index_N[batch.rows_B])
    features_BD = objective.student.features(batch.inputs_BCFT)
    functional.cross_entropy(objective.discriminator(features_BD), devices_B).backward()
    straight = objective.student.model[0].weight.grad
    # Reversal strength at half of the run: 2 / (1 + exp(-5)) - 1.
    expected = gradients[0.0] - 0.9866143 * straight
    torch.testing.assert_close(gradients[1.0], expected, rtol=1e-3, atol=1e-5)


def test_a_recipe_that_distils_refuses_to_run_without_an_ensemble_and_the_reverse(corpus):
    with pytest.raises(ValueError, match="a student that distils needs an ensemble"):
        student_key(TINY, corpus, 100, 0, None, None)
    with pytest.raises(ValueError, match="one alone takes none"):
        student_key(alone(TINY), corpus, 100, 0, None, "stepwise-0")


def test_the_published_preset_averages_over_classes_and_ours_over_the_batch():
    published, ours = RECIPES["isotropic_ascdomain"], RECIPES["isotropic"]
    assert published.distillation.reduction == "element_mean"
    assert ours.distillation.reduction == "batch_mean"
    assert replace(ours, name="", distillation=None) == replace(
        published, name="", distillation=None
    )


def test_every_student_recipe_is_within_the_challenges_budget():
    for recipe in RECIPES.values():
        student = build(recipe.model, n_classes=10, **recipe.arguments)
        complexity = measure(student, (1, *recipe.front_end.shape(32_000)))
        assert (complexity.params, complexity.macs) == (47_946, 29_747_914)
