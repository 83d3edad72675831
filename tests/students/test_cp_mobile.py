import pytest
import student_golden
import torch
from student_golden import assert_equals_golden, fill_by_key

from students.catalogue import build
from students.cp_mobile import CPMobile, GlobalResponseNorm, round_width


@pytest.mark.parametrize("rule", ["key", "pos"])
@pytest.mark.parametrize("name", ["dcase24_baseline", "bcbl8", "cp_mobile_2023"])
def test_logits_equal_those_of_the_published_model_under_its_own_names(name, rule):
    golden = student_golden.load(f"models/{name}")
    args = golden["args"]
    model = build(
        name,
        n_classes=args["n_classes"],
        base_channels=args["base_channels"],
        channels_multiplier=args["channels_multiplier"],
        expansion_rate=args["expansion_rate"],
    )
    fill_by_key(model, golden, rule)
    assert_equals_golden(model, golden, rule)


@pytest.mark.parametrize(
    ("width", "expected"), [(1, 8), (12, 16), (57.6, 56), (67.2, 64), (18.3, 24), (103.68, 104)]
)
def test_widths_are_multiples_of_eight_and_at_most_a_tenth_below_the_argument(width, expected):
    assert round_width(width) == expected


def test_strides_read_from_json_are_the_same_strides():
    as_lists = [[1, 1], [1, 1], [1, 2], [2, 1], [1, 1], [1, 1]]
    read, published = (
        build("bcbl8", n_classes=10, **each).eval() for each in ({"strides": as_lists}, {})
    )
    read.load_state_dict(published.state_dict())
    x = torch.randn(1, 1, 64, 33)
    assert torch.equal(read(x), published(x))


@pytest.mark.parametrize("base_channels", [1, 12, 20, 28, 40])
def test_any_base_width_is_built(base_channels):
    model = build("dcase24_baseline", n_classes=10, base_channels=base_channels)
    assert model(torch.randn(2, 1, 64, 33)).shape == (2, 10)


def test_a_fresh_response_norm_changes_nothing_and_a_silent_map_gives_a_finite_gradient():
    norm = GlobalResponseNorm()
    maps = torch.randn(2, 3, 4, 5)
    assert torch.equal(norm(maps), maps)
    silent = torch.zeros(1, 3, 4, 5, requires_grad=True)
    norm(silent).sum().backward()
    assert silent.grad.isfinite().all()


def test_response_norm_follows_its_formula():
    norm = GlobalResponseNorm()
    torch.nn.init.constant_(norm.gamma, 0.3)
    torch.nn.init.constant_(norm.beta, -0.2)
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    expected = torch.empty_like(maps)
    for clip in range(2):
        lengths = [maps[clip, channel].square().sum().sqrt() for channel in range(3)]
        for channel in range(3):
            relative = lengths[channel] / (sum(lengths) / 3 + 1e-6)
            expected[clip, channel] = (
                0.3 * maps[clip, channel] * relative - 0.2 + maps[clip, channel]
            )
    # The scale and the offset are float32.
    torch.testing.assert_close(norm(maps), expected, rtol=0, atol=1e-6)


def test_in_training_only_forward_updates_the_norm_of_the_head():
    model = CPMobile(4, base_channels=8).train()
    norm = model.feed_forward[1]
    x = torch.randn(3, 1, 32, 32)
    features_BD, logits_BK = model.features_and_logits(x)
    after_pass = norm.running_mean.clone()
    assert after_pass.abs().sum() > 0
    # All positions of all clips together are brought to mean 0, and so are their means.
    torch.testing.assert_close(logits_BK.mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    model.classifier(features_BD)
    assert torch.equal(norm.running_mean, after_pass)
