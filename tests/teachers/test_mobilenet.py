"""Laws of the MobileNet teachers (and of the channel table that DyMN shares)."""

import pytest
import torch

from teachers.mobilenet import STRIDES, MobileNet, SqueezeExcite, make_block_shapes, round_channels


@pytest.mark.parametrize("width", [0.1, 0.4, 0.5, 1.0, 2.0, 3.3])
def test_rounded_channels_are_multiples_of_8_and_at_most_a_tenth_below(width):
    for channels in range(1, 1300):
        scaled = channels * width
        rounded = round_channels(scaled)
        assert rounded % 8 == 0
        assert rounded >= max(8, 0.9 * scaled)
        assert rounded <= max(8, 1.1 * scaled + 8)


@pytest.mark.parametrize(
    ("width", "channels"),
    [
        (0.4, [(8, 8), (24, 16), (32, 16), (32, 16), (48, 16), (48, 16), (96, 32), (80, 32)]),
        (0.5, [(8, 8), (32, 16), (40, 16), (40, 24), (64, 24), (64, 24), (120, 40), (104, 40)]),
        (1.0, [(16, 16), (64, 24), (72, 24), (72, 40), (120, 40), (120, 40), (240, 80), (200, 80)]),
    ],
)
def test_the_first_blocks_have_the_published_channels(width, channels):
    shapes = make_block_shapes(width)
    assert [(shape.expanded, shape.channels_out) for shape in shapes[:8]] == channels


@pytest.mark.parametrize("width", [0.1, 0.2, 0.4, 1.3])
def test_every_block_takes_what_the_one_before_it_gives(width):
    shapes = make_block_shapes(width)
    assert [shape.channels_in for shape in shapes[1:]] == [s.channels_out for s in shapes[:-1]]


def test_a_fully_convolutional_head_averages_the_logits_of_all_places():
    torch.manual_seed(0)
    model = MobileNet(5, 0.1, head="fully_convolutional").double().eval()
    mean_K = model.get_buffer("classifier.1.running_mean").uniform_(-1, 1)
    variance_K = model.get_buffer("classifier.1.running_var").uniform_(0.5, 2)
    x = torch.randn(2, 1, 64, 70, dtype=torch.float64)
    weight_KD = model.get_parameter("classifier.0.weight")[:, :, 0, 0]
    logits = []
    for clip in model.features(x):
        places = clip.flatten(1).T @ weight_KD.T
        logits.append(((places - mean_K) / (variance_K + 1e-5).sqrt()).mean(0))
    # The same sums in float64, in another order.
    torch.testing.assert_close(model(x)[0], torch.stack(logits), rtol=0, atol=1e-12)


def test_a_fully_convolutional_head_has_upstreams_keys_and_no_bias():
    keys = [key for key in MobileNet(5, 0.1, head="fully_convolutional").state_dict()]
    assert [key for key in keys if key.startswith("classifier")] == [
        "classifier.0.weight",
        "classifier.1.weight",
        "classifier.1.bias",
        "classifier.1.running_mean",
        "classifier.1.running_var",
        "classifier.1.num_batches_tracked",
    ]


@pytest.mark.parametrize(
    ("strides", "size"), [((2, 2, 2, 2), (4, 3)), ((2, 2, 2, 1), (8, 5)), ((2, 2, 1, 1), (16, 9))]
)
def test_strides_change_the_size_of_the_last_map_and_no_weight(strides, size):
    torch.manual_seed(0)
    usual, other = MobileNet(5, 0.1).eval(), MobileNet(5, 0.1, strides).eval()
    other.load_state_dict(usual.state_dict())
    x = torch.randn(1, 1, 128, 70)
    assert other.features(x).shape[2:] == size
    same = torch.equal(other(x)[0], usual(x)[0])
    assert same == (strides == STRIDES)


def test_strides_belong_to_the_blocks_that_halve_both_axes():
    strides = [shape.stride for shape in make_block_shapes(1.0, (2, 1, 2, 1))]
    assert strides == [1, 2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strides": (2, 2, 2)}, r"strides are \(2, 2, 2\)"),
        ({"strides": (2, 2, 2, 3)}, r"strides are \(2, 2, 2, 3\)"),
        ({"head": "attention"}, "head is 'attention', expected one of mlp, fully_convolutional"),
    ],
)
def test_unpublished_variants_are_refused_by_their_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        MobileNet(10, 0.1, **arguments)


def test_the_gate_only_scales_whole_channels_by_0_to_1():
    torch.manual_seed(0)
    x = torch.rand(2, 16, 5, 4) + 0.5
    share = SqueezeExcite(16)(x) / x
    # A ratio of float32 numbers: rounded twice.
    torch.testing.assert_close(share, share[:, :, :1, :1].expand_as(share), rtol=1e-6, atol=0)
    assert ((share > 0) & (share < 1)).all()


def test_without_weights_convolutions_start_by_fan_out_and_linear_layers_small():
    torch.manual_seed(0)
    model = MobileNet(10)
    last_conv = model.get_parameter("features.16.0.weight")
    hidden = model.get_parameter("classifier.2.weight")
    # Over 150,000 normal numbers their standard deviation is known within 0.2 %.
    assert last_conv.std().item() == pytest.approx((2 / 960) ** 0.5, rel=0.01)
    assert hidden.std().item() == pytest.approx(0.01, rel=0.01)
    assert model.get_parameter("classifier.2.bias").abs().max() == 0


@pytest.mark.parametrize(
    ("n_classes", "width", "message"),
    [
        (0, 1.0, "n_classes is 0"),
        (10, 0.0, "width is 0.0"),
        (10, float("nan"), "width is nan"),
    ],
)
def test_impossible_sizes_are_refused_by_their_value(n_classes, width, message):
    with pytest.raises(ValueError, match=message):
        MobileNet(n_classes, width)
