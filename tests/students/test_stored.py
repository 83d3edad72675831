"""A recipe is restored from its record in JSON."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from logit_store import DamagedFile, LogitKey
from students import RECIPES, Challenge, Decoupled, Dist, Distillation, Mixup, drop_teachers
from students.catalogue import build
from students.errors import NoStudent
from students.records import restore_recipe
from students.stored import load_student
from students.ways import apply_way
from training import Ema, RampHoldLinear, Soup, WarmupCosine, locate_weights

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
    "modulated": apply_way(BASE, "modulated"),
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


def test_changed_weights_are_not_loaded(store, corpus):
    key = LogitKey(corpus.name, 100, "tiny-0")
    arguments = {"filters": 8, "depth": 1}
    student = build("isotropic", n_classes=3, **arguments)
    weights = safetensors.torch.save(student.state_dict())
    record = {
        "recipe": {
            "name": "tiny",
            "model": "isotropic",
            "arguments": arguments,
            "front_end": asdict(RECIPES["isotropic"].front_end),
        },
        "kind": "student",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    store.write(key, np.zeros((len(corpus), 3), np.float32), record)
    name = locate_weights("student", key.member)
    store.objects.write(name, weights)
    loaded = load_student(store, key, 3).student.state_dict()
    assert all(torch.equal(loaded[name], each) for name, each in student.state_dict().items())
    changed = bytearray(weights)
    changed[-1] ^= 1
    Path(store.objects.locate(name)).write_bytes(changed)
    with pytest.raises(
        DamagedFile, match="SHA-256 .* expected .* and the member's logits"
    ) as caught:
        load_student(store, key, 3)
    assert caught.value.path == store.objects.locate(name)
