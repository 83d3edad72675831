import math

"""The students that a search proposes, and the recipes of those that it finds."""

from dataclasses import replace

import pytest

from students import RECIPES, Distillation, drop_teachers
from students.search_space import SEARCH_SPACES, Range, find_space, make_found_recipe, shorten
from training import RampHoldLinear, WarmupCosine


def document(space, points, **changes):
    """Return the result of a search: its trials, the best first."""
    trials = [{"state": "done", "point": point} for point in points]
    search = {
        "space": space.name,
        "recipe": None,
        "space_identity": space.identity,
        "taught_by": "stepwise@0123",
    }
    return {"search": search | changes, "trials": trials}


def test_the_published_grid_has_540_points_each_once():
    grid = SEARCH_SPACES["grid540"]
    points = grid.list_points()
    assert len(points) == 540
    assert len({tuple(point.items()) for point in points}) == 540
    assert grid.is_finite
    for values in ((32, 4, 3, 4), (64, 9, 3, 5), (128, 10, 6, 16)):
        names = ("filters", "depth", "kernel", "patch")
        point = {f"arguments.{k}": v for k, v in zip(names, values, strict=True)}
        assert point in points


def test_the_published_grid_has_no_teachers_and_no_impulse_responses():
    base = SEARCH_SPACES["grid540"].base
    assert base.distillation is None
    assert base.device_loss_weight == 0
    assert base.augmentation.impulse_response_probability == 0
    published = RECIPES["isotropic_ascdomain"]
    assert base.training == published.training
    assert base.front_end == published.front_end


def test_a_point_changes_only_its_dimensions():
    space = SEARCH_SPACES["isotropic"]
    recipe = space.make_recipe(
        {
            "arguments.filters": 48,
            "training.weight_decay": 0.002,
            "training.peak_learning_rate": 0.01,
            "distillation.temperature": 3.0,
            "augmentation.mixstyle_probability": 0.1,
            "device_loss_weight": 0.05,
        }
    )
    base = RECIPES["isotropic"]
    assert recipe.name.startswith("isotropic_")
    assert recipe == replace(
        base,
        name=recipe.name,
        arguments={"filters": 48},
        training=replace(base.training, weight_decay=0.002, peak_learning_rate=0.01),
        distillation=Distillation(temperature=3.0),
        augmentation=replace(base.augmentation, mixstyle_probability=0.1),
        device_loss_weight=0.05,
    )


def test_points_have_names_of_their_own_and_the_base_keeps_its():
    space = SEARCH_SPACES["baseline"]
    names = {
        space.make_recipe({"arguments.base_channels": channels}).name for channels in (8, 16, 24)
    }
    assert len(names) == 3
    assert space.make_recipe({}) == RECIPES["bcbl32"]


@pytest.mark.parametrize("name", SEARCH_SPACES)
def test_the_ends_of_every_range_and_every_listed_value_make_a_recipe(name):
    space = SEARCH_SPACES[name]
    for dimension, values in space.dimensions.items():
        ends = (values.low, values.high) if isinstance(values, Range) else values
        for value in ends:
            assert space.make_recipe({dimension: value}) != space.base


def test_a_space_without_teachers_has_no_dimensions_of_soft_labels():
    space = SEARCH_SPACES["isotropic"].drop_teachers()
    assert space.base.distillation is None
    assert not any(name.startswith("distillation.") for name in space.dimensions)
    assert "training.weight_decay" in space.dimensions
    assert space.identity != SEARCH_SPACES["isotropic"].identity


def test_a_space_moves_to_another_recipe():
    space = find_space("isotropic", "demo_isotropic")
    assert space.base == RECIPES["demo_isotropic"]
    assert space.dimensions == SEARCH_SPACES["isotropic"].dimensions
    lone = find_space("recipe", "isotropic_adversarial")
    assert not any(name.startswith("distillation.") for name in lone.dimensions)


@pytest.mark.parametrize(
    ("space", "recipe", "message"),
    [
        ("cubic", None, "no space cubic; there are: isotropic, baseline"),
        ("isotropic", "isotropc", "no student recipe isotropc; there are"),
        ("isotropic", "cp_mobile_2023", "varies the architecture isotropic, and recipe cp_mobile"),
    ],
)
def test_a_space_and_a_recipe_that_do_not_fit_are_refused(space, recipe, message):
    with pytest.raises(ValueError, match=message):
        find_space(space, recipe)


def test_a_point_of_another_space_is_refused():
    with pytest.raises(ValueError, match=r"space recipe has no dimension arguments.filters"):
        SEARCH_SPACES["recipe"].make_recipe({"arguments.filters": 32})


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(1.0, 1.0, False), (0.0, 1.0, True), (1.0, math.inf, False), (math.nan, 1.0, False)],
)
def test_a_range_without_numbers_is_refused(low, high, log):
    with pytest.raises(ValueError, match="expected finite numbers with low < high"):
        Range(low=low, high=high, log=log)


def test_a_found_recipe_is_that_of_its_point_in_full_length():
    space = SEARCH_SPACES["isotropic"]
    points = [{"arguments.filters": 96, "device_loss_weight": 0.01}, {"arguments.filters": 32}]
    found = document(space, points)
    assert make_found_recipe(found) == space.make_recipe(points[0])
    assert make_found_recipe(found, rank=1) == space.make_recipe(points[1])
    assert make_found_recipe(found).training.max_epochs == 150


def test_a_recipe_found_without_teachers_has_none():
    space = SEARCH_SPACES["isotropic"].drop_teachers()
    found = document(space, [{"arguments.filters": 96}], taught_by=None)
    recipe = make_found_recipe(found)
    assert recipe.distillation is None
    assert drop_teachers(recipe).name == f"{recipe.name}_alone"


def test_a_point_that_was_not_trained_is_not_found():
    found = document(SEARCH_SPACES["isotropic"], [{"arguments.filters": 96}])
    found["trials"].append({"state": "over_budget", "point": {"arguments.filters": 128}})
    with pytest.raises(ValueError, match="rank=1: the search has trained 1 points"):
        make_found_recipe(found, rank=1)


def test_a_search_of_a_space_that_has_changed_is_refused():
    found = document(SEARCH_SPACES["isotropic"], [{}], space_identity="0123456789ab")
    with pytest.raises(ValueError, match="has changed since that search"):
        make_found_recipe(found)


def test_a_shorter_run_warms_up_for_the_same_share_of_it():
    recipe = shorten(RECIPES["isotropic"], 15)
    assert recipe.training.max_epochs == 15
    assert recipe.training.schedule == WarmupCosine(warmup_steps=200)
    ramped = shorten(RECIPES["cp_mobile_2023"], 30).training.schedule
    assert ramped == RampHoldLinear(
        ramp_epochs=3, hold_until_epoch=10, line_epochs=17, last_factor=0.005
    )
    assert shorten(RECIPES["isotropic"], 150) == RECIPES["isotropic"]
