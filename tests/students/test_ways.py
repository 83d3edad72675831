"""Ways of learning by name: what each word changes, and what is refused with a reason."""

from dataclasses import asdict, replace

import pytest

from audio.views import SpectrumModulation
from students import RECIPES, Decoupled, Dist, Distillation, FeatureDistillation, Mixup
from students.recipe import Challenge
from students.ways import AS_NAMED, WAYS, apply_way
from training.recipe import Ema, Soup

BASE = RECIPES["isotropic_ascdomain"]
assert BASE.distillation


def distilling(**changes):
    return replace(BASE, distillation=replace(BASE.distillation, **changes))


def averaging(keep):
    return replace(BASE, training=replace(BASE.training, keep=keep))


EXPECTED = {
    "alone": replace(BASE, distillation=None),
    "distilled": replace(BASE, distillation=Distillation()),
    "published": BASE,
    "standardized": distilling(standardized=True),
    "distilled+decoupled": replace(BASE, distillation=Distillation(loss=Decoupled())),
    "distilled+dist": replace(BASE, distillation=Distillation(loss=Dist())),
    "confident": distilling(confident=True),
    "temperature=4": distilling(temperature=4.0),
    "labels=0.1": distilling(hard_label_weight=0.1),
    "views=8": distilling(n_views=8),
    "mixup": replace(BASE, mixup=Mixup()),
    "mixup=0.4": replace(BASE, mixup=Mixup(alpha=0.4)),
    "adversarial": BASE,
    "adversarial=0.5": replace(BASE, device_loss_weight=0.5),
    "plain": replace(BASE, device_loss_weight=0.0),
    "modulated": replace(BASE, augmentation=SpectrumModulation(**asdict(BASE.augmentation))),
    "rsc": replace(BASE, challenge=Challenge()),
    "rsc=0.33": replace(BASE, challenge=Challenge(drop_features=0.33, drop_clips=0.33)),
    "rsc+rsc_features=0.33": replace(BASE, challenge=Challenge(drop_features=0.33)),
    "rsc_clips=0.1": replace(BASE, challenge=Challenge(drop_clips=0.1)),
    "distilled+features": replace(BASE, distillation=FeatureDistillation()),
    "distilled+features=0.5": replace(BASE, distillation=FeatureDistillation(feature_weight=0.5)),
    "ema=0.99": averaging(Ema(decay=0.99)),
    "soup=5": averaging(Soup(epochs=5)),
}


@pytest.mark.parametrize("way", EXPECTED)
def test_a_way_changes_only_what_it_says(way):
    assert replace(apply_way(BASE, way), name=BASE.name) == EXPECTED[way]


def test_every_word_is_tried_here():
    tried = {word.partition("=")[0] for way in EXPECTED for word in way.split("+")}
    assert tried == set(WAYS) - {AS_NAMED}


def test_the_name_contains_the_way_unless_nothing_was_changed():
    assert (
        apply_way(BASE, "standardized+mixup=0.4").name
        == "isotropic_ascdomain_standardized_mixup0.4"
    )
    assert apply_way(BASE, AS_NAMED) is BASE


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("dissociated", r"'dissociated': no such way to learn; there are: .*"),
        ("mixupp", "no such way to learn; there are: mixup"),
        ("temperature", "expected a number: temperature="),
        ("alone=3", "alone takes no number"),
        ("views=2.5", "'2.5' is no int"),
        ("temperature=0", "0: expected a number above 0"),
        ("soup=1", "1: expected a whole number from 2"),
        ("mixup=1e308", "1e308: expected a number above 0, at most 1,000"),
        ("adversarial=nan", "nan: expected a number from 0 to 1,000"),
        ("alone+decoupled", "learns from labels alone: put distilled before it"),
        ("decoupled", "only the divergence has this reduction"),
        ("distilled+confident+dist", "no clip has a loss of its own"),
        ("mixup+rsc", "needs the true class"),
        ("distilled+features+alone", "distilled is how soft labels teach, and alone leaves them"),
        ("temperature=4+alone", "temperature=4 is how soft labels teach"),
        ("distilled+decoupled+mixup", "needs the true class"),
        (
            "temperature=3+temperature=4",
            "'temperature=3' changes nothing, because the words after it",
        ),
        ("rsc_clips=0.1+rsc", "'rsc_clips=0.1' changes nothing"),
        ("alone+distilled", "'alone' changes nothing"),
        ("plain+adversarial=0.5", "'plain' changes nothing"),
        ("", "no such way to learn"),
    ],
)
def test_a_way_that_makes_no_sense_is_refused_with_the_reason(way, message):
    with pytest.raises(ValueError, match=message) as refusal:
        apply_way(BASE, way)
    assert str(refusal.value).startswith(f"way {way!r}")
