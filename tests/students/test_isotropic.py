import pytest
import student_golden
import torch
from student_golden import assert_equals_golden, fill_by_key, fill_by_position

from students.complexity import measure
from students.isotropic import Isotropic


def build(args):
    return Isotropic(
        n_classes=args["n_classes"],
        filters=args["filters"],
        depth=args["depth"],
        kernel=args["kernel_size"],
        patch=args["patch_size"],
    )


def test_published_weights_load_under_their_own_names():
    golden = student_golden.load("models/isotropic_feat_cls")
    model = build(golden["args"])
    fill_by_key(model, golden)
    assert_equals_golden(model, golden, "key")


@pytest.mark.parametrize("name", ["isotropic", "isotropic_v3", "isotropic_feat_cls"])
def test_logits_equal_those_of_the_published_model(name):
    golden = student_golden.load(f"models/{name}")
    model = build(golden["args"])
    fill_by_position(model, golden)
    assert_equals_golden(model, golden, "pos")


@pytest.mark.parametrize("name", ["isotropic", "isotropic_v3"])
def test_logits_equal_those_of_the_published_model_with_other_weights(name):
    golden = student_golden.load(f"models/{name}")
    model = build(golden["args"])
    fill_by_position(model, golden, seed_by_key=True)
    assert_equals_golden(model, golden, "key")


@pytest.mark.parametrize(
    ("arguments", "params", "macs"),
    [
        ({}, 47_946, 29_747_914),
        ({"filters": 128, "depth": 4, "kernel": 4, "patch": 8}, 86_666, 21_270_026),
        ({"filters": 128, "depth": 6, "kernel": 3, "patch": 8}, 119_690, 29_463_050),
    ],
)
def test_counts_are_those_of_the_report(arguments, params, macs):
    complexity = measure(Isotropic(10, **arguments), (1, 1, 256, 65))
    assert (complexity.params, complexity.macs) == (params, macs)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_an_even_kernel_keeps_the_size_as_the_frameworks_same_padding_does():
    model = Isotropic(10, filters=4, depth=1, kernel=4, patch=8)
    own = model.get_submodule("model.3.0.fn.0")
    same = torch.nn.Conv2d(4, 4, 4, padding="same", groups=4)
    same.load_state_dict(own.state_dict())
    x = torch.randn(2, 4, 9, 7)
    # Two ways to the same products, which may be added in another order.
    torch.testing.assert_close(own(x), same(x), rtol=0, atol=1e-6)


def test_logits_are_the_classifier_of_the_features():
    model = Isotropic(7, filters=12, depth=2).eval()
    x = torch.randn(3, 1, 40, 30)
    features = model.features(x)
    assert features.shape == (3, 12)
    assert torch.equal(model.classifier(features), model(x))
    assert model(x).shape == (3, 7)


def test_bands_and_frames_that_fill_no_patch_are_not_seen():
    model = Isotropic(10, filters=8, depth=1).eval()
    x = torch.randn(1, 1, 256, 66)
    changed = x.clone()
    changed[:, :, 255:] = 9.0
    changed[:, :, :, 65:] = 9.0
    assert torch.equal(model(x), model(changed))
