"""Recipes, teachers and budgets that cannot work are refused before any training."""

from dataclasses import replace
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
import torch
from echo import RECIPE_OF_ECHO, TEACHER_NK, K, batch_of, normal, objective_of
from tiny import FRONT_END

from audio.front_ends import ASCDOMAIN_CNN
from logit_store import LogitKey, LogitStore, MissingLogits
from students import (
    RECIPES,
    Challenge,
    Decoupled,
    Dist,
    Distillation,
    Mixup,
    UnfitSoftLabels,
    build,
    check_teachers,
    drop_teachers,
)
from students.complexity import OverBudget
from students.distill import check_recipe

MODEL_OF_TWO_TASKS = "dsmn_model2"
LOSSES = {"divergence": "divergence", "decoupled": Decoupled(), "dist": Dist()}
CHOICES = {
    "loss": ("none", *LOSSES),
    "reduction": ("batch_mean", "element_mean"),
    "standardized": (False, True),
    "confident": (False, True),
    "n_views": (None, 2),
    "mixup": (False, True),
    "challenge": (False, True),
    "two_tasks": (False, True),
    "device_loss_weight": (0.0, 0.5),
}
OF_DISTILLATION = ("reduction", "standardized", "confident", "n_views")
EXCLUDED = (
    ({"loss": "decoupled", "reduction": "element_mean"}, "use batch_mean"),
    ({"loss": "dist", "reduction": "element_mean"}, "use batch_mean"),
    ({"loss": "dist", "confident": True}, "no clip has a loss of its own to weigh"),
    ({"mixup": True, "challenge": True}, "Challenge.* needs the true class"),
    ({"mixup": True, "loss": "decoupled"}, "Decoupled.* needs the true class"),
    ({"two_tasks": True, "challenge": True}, "two_tasks=True has two"),
)
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in product(*CHOICES.values())]


def reasons(choice):
    """Return the reasons to refuse a choice."""
    return [reason for parts, reason in EXCLUDED if parts.items() <= choice.items()]


def recipe_of(choice):
    distillation = None
    if choice["loss"] != "none":
        settings = {name: choice[name] for name in OF_DISTILLATION}
        distillation = Distillation(loss=LOSSES[choice["loss"]], **settings)
    return replace(
        RECIPE_OF_ECHO,
        model=MODEL_OF_TWO_TASKS if choice["two_tasks"] else "isotropic",
        distillation=distillation,
        mixup=Mixup() if choice["mixup"] else None,
        challenge=Challenge(drop_features=0.3, drop_clips=0.3) if choice["challenge"] else None,
        two_tasks=choice["two_tasks"],
        device_loss_weight=choice["device_loss_weight"],
    )


@pytest.mark.parametrize(("parts", "reason"), EXCLUDED, ids=lambda value: str(value)[:50])
def test_ways_of_learning_that_exclude_each_other_are_refused_with_the_reason(parts, reason):
    nothing_else = {name: values[0] for name, values in CHOICES.items()}
    with pytest.raises(ValueError, match=reason):
        recipe_of(nothing_else | parts)


def test_no_other_combination_is_refused():
    for choice in COMBINATIONS:
        if reasons(choice):
            with pytest.raises(ValueError, match="|".join(reasons(choice))):
                recipe_of(choice)
        else:
            assert recipe_of(choice).two_tasks == choice["two_tasks"]


def recipes_to_learn(two_tasks):
    """Yield accepted choices: standardised and with views, or neither, which halves the time."""
    recipes = []
    for choice in COMBINATIONS:
        as_one = choice["standardized"] == (choice["n_views"] is not None)
        if as_one and choice["two_tasks"] == two_tasks and not reasons(choice):
            recipe = recipe_of(choice)
            if recipe not in recipes:
                recipes.append(recipe)
    return recipes


@pytest.mark.parametrize(
    ("two_tasks", "narrow"),
    [
        (False, {"filters": 4, "depth": 1, "patch": 8}),
        (True, {"channels": (2, 2, 2, 2, 2)}),
    ],
)
def test_every_combination_that_is_not_refused_has_a_finite_gradient(two_tasks, narrow):
    recipes = recipes_to_learn(two_tasks)
    student = build(recipes[0].model, n_classes=K, **narrow)
    batch = batch_of([0, 3, 5, 7], view=1, inputs=normal(1, 4, student.n_channels, 32, 32))
    both_views = torch.stack([TEACHER_NK, -TEACHER_NK])
    for recipe in recipes:
        with_views = recipe.distillation and recipe.distillation.n_views
        student.zero_grad()
        loss = objective_of(recipe, both_views if with_views else TEACHER_NK, student).compute_loss(
            batch
        )
        loss.backward()
        gradients = [p.grad for p in student.parameters() if p.grad is not None]
        assert torch.isfinite(loss), recipe
        assert all(torch.isfinite(gradient).all() for gradient in gradients), recipe
        assert any(gradient.any() for gradient in gradients), recipe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature=0"),
        ({"hard_label_weight": 1.0}, "distillation=None"),
        ({"hard_label_weight": -0.1}, "hard_label_weight=-0.1"),
        ({"reduction": "mean"}, "reduction='mean'"),
        ({"loss": "dist"}, "loss='dist'"),
        ({"n_views": 0}, "n_views=0"),
    ],
)
def test_a_value_that_distillation_cannot_have_is_refused_when_it_is_made(settings, message):
    with pytest.raises(ValueError, match=message):
        Distillation(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"two_tasks": True}, "isotropic has none"),
        ({"device_loss_weight": -1.0}, "device_loss_weight=-1"),
        ({"device_loss_weight": float("nan")}, "device_loss_weight=nan"),
    ],
)
def test_a_recipe_that_does_not_fit_its_model_is_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=f"student recipe echo: .*{message}"):
        replace(RECIPE_OF_ECHO, **settings)


MEMBER = LogitKey("tau", 100, "oracle-0123456789ab")


@pytest.fixture(scope="module")
def store(tmp_path_factory, corpus):
    """A store with one member, which has view 0 only."""
    store = LogitStore(tmp_path_factory.mktemp("store"))
    store.write_clips("tau", corpus.clips_table())
    store.write(MEMBER, np.zeros((len(corpus), 3), np.float32), {"kind": "teacher"})
    return store


def check(corpus, store, *members, recipe=RECIPE_OF_ECHO, split=100):
    check_teachers(recipe, corpus, split, members, store, None)


def test_members_with_the_logits_of_a_split_may_teach_it(corpus, store):
    check(corpus, store, MEMBER)


def test_a_student_without_teachers_needs_no_members(corpus, store):
    check(corpus, store, recipe=drop_teachers(RECIPE_OF_ECHO))


def test_soft_labels_without_members_are_refused(corpus, store):
    with pytest.raises(UnfitSoftLabels, match="recipe echo learns from soft labels, but no member"):
        check(corpus, store)


def test_members_without_logits_are_all_named(corpus, store):
    absent = [replace(MEMBER, member=f"{name}-0123456789ab") for name in ("gone", "lost")]
    with pytest.raises(MissingLogits) as caught:
        check(corpus, store, MEMBER, *absent)
    assert caught.value.missing == tuple(absent)


def test_a_view_that_a_member_did_not_store_is_named(corpus, store):
    recipe = replace(RECIPE_OF_ECHO, distillation=Distillation(n_views=2))
    with pytest.raises(MissingLogits, match="tau/100/oracle-0123456789ab/1"):
        check(corpus, store, MEMBER, recipe=recipe)


@pytest.mark.parametrize(
    ("member", "found"),
    [
        (replace(MEMBER, split=25), "split 25 of corpus tau"),
        (replace(MEMBER, corpus="cochlscene"), "split 100 of corpus cochlscene"),
    ],
)
def test_a_member_of_another_split_or_corpus_is_refused(corpus, store, member, found):
    with pytest.raises(UnfitSoftLabels, match=f"trained on {found}, student echo on split 100 of"):
        check(corpus, store, member)


def test_a_member_with_other_classes_is_refused(corpus, store):
    scenes = ["beach" if each == "bus" else each for each in corpus.table["scene"].to_pylist()]
    at = corpus.table.column_names.index("scene")
    others = replace(corpus, table=corpus.table.set_column(at, "scene", pa.array(scenes)))
    difference = f"{', '.join(corpus.scenes)}, expected {', '.join(others.scenes)}"
    with pytest.raises(UnfitSoftLabels, match=f"ab/0 has the classes {difference}"):
        check(others, store, MEMBER)


def test_a_student_over_the_budget_of_its_own_input_is_refused(corpus):
    recipe = RECIPES["cp_mobile_2023"]
    check_recipe(recipe, corpus)
    # One frame more than it was made for.
    with pytest.raises(OverBudget, match="student cp_mobile_2023 has 31,"):
        check_recipe(replace(recipe, front_end=ASCDOMAIN_CNN), corpus)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "resnet"}, "no student resnet"),
        ({"arguments": {"widht": 8}}, "has no argument widht"),
        ({"arguments": {"filters": 0}}, "filters=0"),
        ({"arguments": {"patch": 40}}, "patch=40, expected at most 24"),
        ({"model": "dsmn_model1"}, r"inputs of 1 channel\(s\), expected 2"),
    ],
)
def test_a_student_that_cannot_be_built_for_its_input_is_refused(corpus, changes, message):
    with pytest.raises(ValueError, match=message):
        check_recipe(replace(RECIPE_OF_ECHO, front_end=FRONT_END, **changes), corpus)
