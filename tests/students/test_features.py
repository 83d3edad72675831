"""Students whose features learn to predict embeddings (L clips, E dimensions)."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from echo import RECIPE_OF_ECHO, TEACHER_NK, Echo, Feed, K, N, batch_of, normal
from tiny import RECIPE
from tiny_student import CPU, TINY_STUDENT, make_teacher_logits
from torch.nn import functional

from logit_store import fingerprint
from students import Distillation, FeatureDistillation, Mixup, TeacherLogits, UnfitSoftLabels
from students.distill import distill
from students.features import CLIPS_AT_A_TIME, FeatureTarget, TeacherEmbeddings
from students.int8 import train_in_int8
from students.objective import DistillationObjective
from students.recipe import Int8Recipe
from students.records import restore_recipe
from students.stages import DeviceStage
from students.stored import load_student
from students.ways import apply_way

E = 5
EMBEDDINGS_NE = (3 + 2 * normal(9, N, E)).numpy()
ECHO = replace(RECIPE_OF_ECHO, distillation=FeatureDistillation(feature_weight=0.5))
LEARNER = replace(
    TINY_STUDENT,
    name="tiny_features",
    distillation=FeatureDistillation(),
    training=replace(RECIPE, max_epochs=2, keep="last"),
)
BATCH = batch_of([3, 1, 4, 8, 11])


def embeddings_of(values=EMBEDDINGS_NE, rows=None):
    rows = np.arange(values.shape[-2]) if rows is None else rows
    return TeacherEmbeddings(("net-0123456789ab",), rows, values)


def objective_of(recipe=ECHO, embeddings=None):
    logits, n_views = TEACHER_NK.numpy(), recipe.distillation.n_views
    logits = logits if n_views is None else np.stack([logits] * n_views)
    soft = TeacherLogits("oracle", logits, embeddings=embeddings or embeddings_of())
    torch.manual_seed(0)
    return DistillationObjective(recipe, Echo(), Feed(), 100, soft)


def standardised(values_NE):
    """Written again, in float64 and at once."""
    wide = np.asarray(values_NE, np.float64)
    return (wide - wide.mean(0)) / wide.std(0)


def test_the_loss_is_the_plain_one_plus_the_squared_error_of_the_projected_features():
    objective = objective_of()
    plain = replace(ECHO, distillation=Distillation())
    soft = TeacherLogits("oracle", TEACHER_NK.numpy())
    without = DistillationObjective(plain, Echo(), Feed(), 100, soft).compute_loss(BATCH).item()
    layer = objective.feature_target.projection
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    projected_BE = BATCH.inputs_BCFT.flatten(1).double().numpy() @ weight.T + bias
    error = np.square(projected_BE - standardised(EMBEDDINGS_NE)[BATCH.rows_B]).mean()
    # Targets are float16.
    assert objective.compute_loss(BATCH).item() == pytest.approx(without + 0.5 * error, rel=1e-3)


def test_features_that_say_nothing_lose_one_and_those_that_say_all_nothing():
    objective = objective_of()
    target = objective.feature_target
    every = target.look_up(0, torch.arange(N))
    with torch.no_grad():
        target.projection.weight.zero_()
        target.projection.bias.zero_()
    assert target.compute_loss(torch.zeros(N, K), every).item() == pytest.approx(1, rel=1e-3)
    with torch.no_grad():
        target.projection.weight[:, :E] = torch.eye(E)
    padded = functional.pad(every, (0, K - E))
    assert target.compute_loss(padded, every).item() == 0


def test_a_dimension_that_only_rounding_moves_is_not_predicted():
    still_N1 = 1_000 + 0.01 * np.arange(N)[:, None]
    objective = objective_of(embeddings=embeddings_of(np.hstack([EMBEDDINGS_NE, still_N1])))
    assert objective.feature_target.projection.out_features == E


def test_each_view_has_embeddings_of_its_own_and_mixed_clips_a_mixture():
    views_VNE = np.stack([EMBEDDINGS_NE, -EMBEDDINGS_NE, 2 * EMBEDDINGS_NE])
    recipe = replace(ECHO, distillation=FeatureDistillation(n_views=3), mixup=Mixup())
    objective = objective_of(recipe, embeddings_of(views_VNE))
    flat = standardised(views_VNE.reshape(-1, E)).reshape(3, N, E)
    rows = torch.tensor([2, 7])
    for view in range(3):
        np.testing.assert_allclose(
            objective.feature_target.look_up(view, rows), flat[view, [2, 7]], atol=2e-3
        )
    targets = []

    def keep_target(features_BD, target_BE):
        targets.append(target_BE)
        return features_BD.sum()

    objective.feature_target.compute_loss = keep_target
    objective.compute_loss(batch_of([2, 7, 9], view=1))
    pure = objective.feature_target.look_up(1, torch.tensor([2, 7, 9]))
    assert not torch.equal(targets[0], pure)
    low, high = pure.min(0).values - 1e-3, pure.max(0).values + 1e-3
    assert ((low <= targets[0]) & (targets[0] <= high)).all()


def test_standardising_in_parts_is_standardising_at_once():
    generator = np.random.default_rng(0)
    values_LE = generator.normal(50, 3, (CLIPS_AT_A_TIME + 7, 3)).astype(np.float16)
    values_LE[:, 1] = 4.0
    rows = np.arange(len(values_LE))
    target = FeatureTarget(K, embeddings_of(values_LE), len(rows), rows)
    expected = standardised(values_LE[:, [0, 2]])
    np.testing.assert_allclose(target.look_up(0, torch.from_numpy(rows)), expected, atol=4e-3)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (embeddings_of(np.full_like(EMBEDDINGS_NE, 2)), "are the same for all 12 clips"),
        (embeddings_of(EMBEDDINGS_NE * np.nan), "are not finite"),
        (embeddings_of(EMBEDDINGS_NE[:9]), "lack row 9 and 2 more"),
        (embeddings_of(np.stack([EMBEDDINGS_NE] * 2)), r"expected 1 view\(s\) of 12 clips"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(embeddings, message):
    with pytest.raises(UnfitSoftLabels, match=message):
        objective_of(embeddings=embeddings)


def test_a_recipe_and_what_it_is_given_must_agree_about_embeddings():
    soft = TeacherLogits("oracle", TEACHER_NK.numpy())
    with pytest.raises(UnfitSoftLabels, match="is given none: name teachers whose embeddings"):
        DistillationObjective(ECHO, Echo(), Feed(), 100, soft)
    plain = replace(ECHO, distillation=Distillation())
    with pytest.raises(UnfitSoftLabels, match="does not learn from embeddings"):
        objective_of(plain)


def test_a_student_without_features_has_the_fingerprint_of_before():
    assert fingerprint(Distillation()) == "7838b78ea043"
    assert fingerprint(FeatureDistillation()) != fingerprint(Distillation())


def test_the_word_keeps_what_other_words_chose_whatever_their_order():
    first = apply_way(TINY_STUDENT, "features=0.5+dist+views=2").distillation
    last = apply_way(TINY_STUDENT, "dist+views=2+features=0.5").distillation
    assert first == last
    assert isinstance(first, FeatureDistillation)
    assert (first.n_views, first.feature_weight) == (2, 0.5)
    with pytest.raises(ValueError, match="learns from labels alone"):
        apply_way(TINY_STUDENT, "alone+features")


def test_the_copies_of_a_student_per_device_learn_no_features():
    way = DeviceStage().make_recipe(LEARNER).distillation
    assert way == Distillation(hard_label_weight=DeviceStage().hard_label_weight)


def test_a_record_has_the_recipe_with_features():
    for way in (FeatureDistillation(), FeatureDistillation(n_views=2, feature_weight=0.1)):
        recipe = replace(TINY_STUDENT, distillation=way)
        record = json.loads(json.dumps({"kind": "student", "recipe": asdict(recipe)}))
        assert restore_recipe(record) == recipe


@pytest.fixture
def taught(corpus):
    """Logits and embeddings that tell the scenes apart, of the clips that are learnt."""
    rows = corpus.rows(100, "fit")
    one_hot = np.eye(3)[corpus.labels()[rows]]
    noise = np.random.default_rng(1).normal(0, 0.1, (len(rows), E))
    values = (noise + one_hot @ np.arange(3 * E).reshape(3, E)).astype(np.float16)
    return replace(make_teacher_logits(corpus), embeddings=embeddings_of(values, rows))


def test_the_projection_learns_is_thrown_away_and_learns_anew_in_int8(
    corpus, store, taught, monkeypatch
):
    losses, compute = [], FeatureTarget.compute_loss

    def noted(self, features_BD, target_BE):
        losses.append(compute(self, features_BD, target_BE))
        return losses[-1]

    monkeypatch.setattr(FeatureTarget, "compute_loss", noted)
    how = {"responses": None, "device": CPU}
    key = distill(LEARNER, corpus, 100, 0, store, taught, **how)
    assert losses[-1].item() < losses[0].item()
    assert store.read_record(key)["embeddings"] == ["net-0123456789ab"]
    student = load_student(store, key, 3).student
    assert not any("projection" in name for name in student.state_dict())
    settings = Int8Recipe(max_steps=1, learning_rate=1e-3)
    tuned = train_in_int8(key, settings, corpus, store, taught, **how)
    assert store.read_record(tuned)["embeddings"] == ["net-0123456789ab"]
    others = replace(taught, embeddings=replace(taught.embeddings, names=("other-0123456789ab",)))
    with pytest.raises(ValueError, match=r"learnt from the embeddings \['net-"):
        train_in_int8(key, replace(settings, max_steps=2), corpus, store, others, **how)
