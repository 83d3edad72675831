import pytest
import student_golden
import torch
from student_golden import assert_equals_golden, fill_by_key, fill_by_position

from students.catalogue import build as build_student
from students.isotropic import Isotropic, MixStyle, mix_channels


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
    fill_by_position(model, golden, rule="key")
    assert_equals_golden(model, golden, "key")


@pytest.mark.parametrize("rule", ["key", "pos"])
@pytest.mark.parametrize("name", ["isotropic_noact", "isotropic_mix"])
def test_logits_of_the_variants_equal_those_of_the_published_models(name, rule):
    golden = student_golden.load(f"models/{name}")
    model = build_student(name, n_classes=10)
    fill_by_position(model, golden, rule)
    assert_equals_golden(model, golden, rule)


def test_channels_are_mixed_as_published():
    golden = student_golden.load("freq_mixstyle")
    mixed = mix_channels(
        torch.tensor(golden["channel_input"]),
        torch.tensor(golden["perm"]),
        torch.tensor(golden["lambda"]),
    )
    # Float32 with nine digits.
    torch.testing.assert_close(mixed, torch.tensor(golden["channel_output"]), rtol=0, atol=1e-5)


def test_a_batch_is_mixed_with_its_probability_and_in_training_only():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 5, 6)
    sometimes = MixStyle(0.4)
    changed = [not torch.equal(sometimes(x), x) for _ in range(400)]
    # Four standard deviations of 400 throws.
    assert abs(sum(changed) / 400 - 0.4) < 0.1
    assert torch.equal(sometimes.eval()(x), x)


def test_mixing_follows_the_first_two_blocks_and_changes_no_key():
    mix, plain = (build_student(name, n_classes=10) for name in ("isotropic_mix", "isotropic"))
    places = [key for key, module in mix.named_modules() if isinstance(module, MixStyle)]
    assert places == ["model.3.4", "model.4.4"]
    assert list(mix.state_dict()) == list(plain.state_dict())


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


def test_bands_and_frames_that_fill_no_patch_are_ignored():
    model = Isotropic(10, filters=8, depth=1).eval()
    x = torch.randn(1, 1, 256, 66)
    changed = x.clone()
    changed[:, :, 255:] = 9.0
    changed[:, :, :, 65:] = 9.0
    assert torch.equal(model(x), model(changed))
