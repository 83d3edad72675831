"""A recipe is restored from its record in JSON."""

import json
from dataclasses import asdict, replace

import pytest

from logit_store import LogitKey
from students import RECIPES, Challenge, Decoupled, Dist, Distillation, Mixup, drop_teachers
from students.errors import NoStudent
from students.records import restore_recipe
from training import Ema, RampHoldLinear, Soup, WarmupCosine

BASE = RECIPES["isotropic"]
UNIONS = {
    "decoupled": replace(BASE, distillation=Distillation(loss=Decoupled(true_class_weight=2.0))),
    "dist": replace(BASE, distillation=Distillation(loss=Dist(within_class_weight=0.5), n_views=3)),
    "ema": replace(BASE, training=replace(BASE.training, keep=Ema(decay=0.9))),
    "soup": replace(BASE, training=replace(BASE.training, keep=Soup(epochs=4))),
    "best": replace(BASE, training=replace(BASE.training, keep="best", patience=3)),
    # Without a warm-up both schedules' fields are numbers that the other could have.
    "cosine": replace(BASE, training=replace(BASE.training, schedule=WarmupCosine(warmup_steps=0))),
    "ramp": replace(BASE, training=replace(BASE.training, schedule=RampHoldLinear())),
    "challenge": replace(BASE, challenge=Challenge(drop_clips=0.33)),
    "mixup": replace(BASE, mixup=Mixup(one_share_per="clip")),
    "alone": drop_teachers(BASE),
    "tuples": replace(
        RECIPES["dsmn_model1"],
        arguments={"blocks": ("plain",) * 5, "channels": (8, 8, 8, 8, 8)},
    ),
    "pairs": replace(BASE, model="cp_mobile_2023", arguments={"strides": ((1, 1), (2, 2)) * 3}),
}


def record_of(recipe):
    """Return the record as the store returns it."""
    return json.loads(json.dumps({"kind": "student", "recipe": asdict(recipe)}))


@pytest.mark.parametrize("recipe", [*RECIPES.values(), *UNIONS.values()], ids=[*RECIPES, *UNIONS])
def test_a_record_has_its_recipe(recipe):
    assert restore_recipe(record_of(recipe)) == recipe


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"momentum": 1}, r"isotropic: .* another version \(momentum=1: "),
        ({"model": 3}, r"another version \(model=3: "),
        ({"distillation": {"temperature": -1.0}}, "temperature=-1.0, expected a number above 0"),
        ({"training": {"max_epochs": 1}}, r"another version \(training.batch_size="),
    ],
)
def test_a_recipe_of_another_version_is_refused(changed, message):
    record = record_of(BASE)
    record["recipe"] |= changed
    with pytest.raises(NoStudent, match=message):
        restore_recipe(record)


@pytest.mark.parametrize("record", [{}, {"kind": "teacher", "recipe": {}}, {"kind": "student"}])
def test_a_member_that_is_no_student_has_no_recipe(record):
    with pytest.raises(NoStudent, match="tau/25/big-1/0: its record is that of"):
        restore_recipe(record, LogitKey("tau", 25, "big-1"))
