import pytest
import student_golden
import torch

from students.catalogue import ARCHITECTURES, build
from students.complexity import check_budget, measure_complexity
from students.recipes import RECIPES

PUBLISHED = {
    "isotropic": (47_946, 29_747_914),
    "isotropic_v2": (86_666, 21_270_026),
    "isotropic_v3": (119_690, 29_463_050),
    "isotropic_noact": (47_946, 29_747_914),
    "isotropic_mix": (47_946, 29_747_914),
    "recursive": (47_946, 29_747_914),
    "siren": (47_946, 29_747_914),
    "recursive_2x2": (86_666, 21_270_026),
    "recursive_2x3": (119_690, 29_463_050),
    "recursive_3x2": (119_690, 29_463_050),
    "dcase24_baseline": (61_148, 29_419_156),
    "bcbl24": (35_062, 16_855_776),
    "bcbl24_44k": (35_062, 22_649_568),
    "bcbl16": (18_624, 8_449_916),
    "bcbl8": (5_722, 2_487_240),
    "cp_mobile_2023": (126_952, 28_893_268),
    "dsmn_model1": (53_039, 8_645_641),
    "dsmn_model2": (68_527, 25_441_889),
    "dsmn_model3": (68_143, 16_746_033),
    "dsmn_model4": (168_783, 20_920_441),
    "tf_sepnet": (126_858, 29_419_648),
    "tf_sepnet_40": (53_370, 7_029_240),
    "tf_sepnet_80": (196_730, 24_178_640),
    "cnn_gru": (58_171, 10_902_300),
    # OURS: no layers of Rep-Mobile are published where they could be read.
    "rep_mobile": (60_652, 18_725_300),
}
GOLDEN = {
    "isotropic": "isotropic",
    "isotropic_feat_cls": "isotropic",
    "isotropic_v3": "isotropic_v3",
    "isotropic_noact": "isotropic_noact",
    "isotropic_mix": "isotropic_mix",
    "recursiv_3x3": "recursive",
    "recursiv_v2_2x2": "recursive_2x2",
    "recursiv_v3_d2c3": "recursive_2x3",
    "recursiv_v3_d3c2": "recursive_3x2",
    "dcase24_baseline": "dcase24_baseline",
    "bcbl8": "bcbl8",
    "cp_mobile_2023": "cp_mobile_2023",
    "dsmn_model1": "dsmn_model1",
    "dsmn_model2": "dsmn_model2",
    "dsmn_model4": "dsmn_model4",
    "tf_sepnet": "tf_sepnet",
    "tf_sepnet_40": "tf_sepnet_40",
    "cnn_gru": "cnn_gru",
    "rep_mobile": "rep_mobile",
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_student_costs_what_is_published(name):
    entry = ARCHITECTURES[name]
    complexity = measure_complexity(build(name, n_classes=10), entry.input_shape)
    assert (complexity.params, complexity.macs) == PUBLISHED[name]


@pytest.mark.parametrize("golden_name", GOLDEN)
def test_every_golden_file_has_its_student(golden_name):
    golden = student_golden.load(f"models/{golden_name}")
    entry = ARCHITECTURES[GOLDEN[golden_name]]
    complexity = measure_complexity(build(GOLDEN[golden_name], n_classes=10), entry.input_shape)
    assert list(entry.input_shape) == golden["input_shape"]
    assert (complexity.params, complexity.macs) == (golden["params"], golden["macs"])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_student_has_the_common_interface(name):
    shape_CFT = ARCHITECTURES[name].input_shape[1:]
    student = build(name, n_classes=7, input_shape=shape_CFT).eval()
    x = torch.randn(2, *shape_CFT, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features_BD, logits_BK = student.features_and_logits(x)
        assert features_BD.shape == (2, student.n_features)
        assert logits_BK.shape == (2, 7)
        assert torch.equal(student(x), logits_BK)
        assert torch.equal(student.features(x), features_BD)
        # A head may pool before or after it classifies: another order of the same sums.
        torch.testing.assert_close(student.classifier(features_BD), logits_BK, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_gradient_reaches_every_module_that_a_pass_calls(name):
    shape_CFT = ARCHITECTURES[name].input_shape[1:]
    student = build(name, n_classes=3)
    student(torch.randn(2, *shape_CFT)).square().sum().backward()
    without = [key for key, value in student.named_parameters() if value.grad is None]
    assert all(key.startswith("conv6.") for key in without)


def test_arguments_override_those_of_the_catalogue():
    assert build("dcase24_baseline", n_classes=10, base_channels=24).n_features == 80
    assert build("recursive", n_classes=10, depth=2, columns=4, filters=16).n_features == 16


def test_an_unknown_student_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no student isotropik; there are: isotropic, "):
        build("isotropik", n_classes=10)


def test_an_unknown_argument_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"isotropic has no argument filter; there are: filters, "):
        build("isotropic", n_classes=10, filter=64)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("isotropic", {"filters": 0}, "filters=0, expected a whole number, at least 1"),
        ("isotropic", {"kernel": 2.5}, r"kernel=2\.5, expected a whole number"),
        ("isotropic", {"mixstyle_probability": 1.5}, r"mixstyle_probability=1\.5"),
        ("recursive", {"depth": 1}, "depth=1 with columns=3, expected a depth of at least 2"),
        ("recursive", {"columns": 11}, "depth=3 and columns=11, expected at most 10"),
        ("bcbl8", {"base_channels": -8}, "base_channels=-8"),
        ("bcbl8", {"expansion_rate": 0.0}, r"expansion_rate=0\.0, expected a number above 0"),
        ("bcbl8", {"strides": ((1, 1),)}, r"strides=\(\(1, 1\),\), expected 6 pairs"),
        ("dsmn_model1", {"blocks": ("split",) * 4}, "expected 5 times split or plain"),
        ("dsmn_model1", {"blocks": ("cut",) * 5}, "expected 5 times split or plain"),
        ("dsmn_model1", {"channels": (24, 32, 64, 64, 65)}, "expected 5 even numbers"),
        ("tf_sepnet", {"channels": 42}, "channels=42, expected a multiple of 4"),
        ("tf_sepnet", {"poolings": 4}, "poolings=4, expected 2 or 3"),
        ("tf_sepnet", {"blocks": (2, 2, 2)}, r"blocks=\(2, 2, 2\), expected 4 numbers"),
        ("tf_sepnet", {"dropout": 1.0}, r"dropout=1\.0, expected a share"),
        ("cnn_gru", {"channels": 22}, "channels=22, expected a multiple of 4"),
        ("cnn_gru", {"bands": 250}, "bands=250, expected a multiple of 16"),
        ("cnn_gru", {"divisor": 200}, "widths of 72 in the branches and 0 at the end"),
        ("rep_mobile", {"expansion_rate": 0.0}, r"expansion_rate=0\.0, expected a number above 0"),
    ],
)
def test_wrong_arguments_are_refused_when_the_student_is_built(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(name, n_classes=10, **arguments)


@pytest.mark.parametrize(
    ("name", "shape_CFT", "message"),
    [
        ("isotropic", (1, 256, 4), "patch=5, expected at most 4 for inputs of 256 bands and 4 fra"),
        ("recursive", (1, 4, 65), "patch=5, expected at most 4"),
        ("isotropic", (2, 256, 65), r"inputs of 2 channel\(s\), expected 1 for Isotropic"),
        ("dsmn_model1", (1, 256, 44), r"inputs of 1 channel\(s\), expected 2 for DSMN"),
        ("dsmn_model1", (2, 250, 44), "leave 125 x 22 to split block 2"),
        ("dsmn_model2", (2, 256, 31), "leave 16 x 1 to plain block 5"),
        ("tf_sepnet", (1, 512, 28), "512 bands and 28 frames, expected at least 29 of both"),
        ("cnn_gru", (1, 128, 33), "inputs of 128 bands, expected bands=256"),
        ("cnn_gru", (1, 256, 5), "inputs of 5 frames, expected at least 6"),
    ],
)
def test_inputs_that_a_student_cannot_take_are_refused_when_it_is_built(name, shape_CFT, message):
    with pytest.raises(ValueError, match=message):
        build(name, n_classes=10, input_shape=shape_CFT)


@pytest.mark.parametrize(
    ("name", "shape_CFT"),
    [
        ("isotropic", (1, 5, 5)),
        ("bcbl8", (1, 1, 1)),
        ("dsmn_model1", (2, 32, 32)),
        ("dsmn_model2", (2, 32, 32)),
        ("tf_sepnet", (1, 29, 29)),
        ("tf_sepnet_40", (1, 13, 13)),
        ("cnn_gru", (1, 256, 6)),
        ("rep_mobile", (1, 1, 1)),
    ],
)
def test_the_smallest_accepted_inputs_pass(name, shape_CFT):
    student = build(name, n_classes=4, input_shape=shape_CFT).eval()
    assert student(torch.zeros(1, *shape_CFT)).isfinite().all()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipes_student_is_within_the_challenges_budget(name):
    recipe = RECIPES[name]
    shape_CFT = recipe.front_end.compute_shape(recipe.front_end.sample_rate)
    student = build(recipe.model, n_classes=10, input_shape=shape_CFT, **recipe.arguments)
    check_budget(measure_complexity(student, (1, *shape_CFT)), student=name)


def test_every_student_within_the_budget_has_a_recipe():
    taught = {recipe.model for recipe in RECIPES.values()}
    # Those of other widths are taught as their common network with an argument.
    widths = {"bcbl8", "bcbl16", "bcbl24"}
    assert set(ARCHITECTURES) - taught - widths == {"siren", "dsmn_model4", "tf_sepnet_80"}
