"""Laws of the Dynamic MobileNet teachers."""

import pytest
import torch
from torch.nn import functional

from teachers.dymn import DyMN, DynamicBlock, DynamicConv, DynamicReLU, count_context_channels
from teachers.mobilenet import InvertedResidual, MobileNet, make_block_shapes


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (1.0, [32] * 6 + [64, 48, 48, 48, 120, 128, 128, 128, 128]),
        (0.4, [16] * 6 + [24, 24, 24, 24] + [48] * 5),
    ],
)
def test_the_context_is_as_wide_as_published(width, expected):
    assert [count_context_channels(s.expanded, width) for s in make_block_shapes(width)] == expected


@pytest.mark.parametrize(
    ("channels_in", "channels_out", "kernel", "stride", "groups"),
    [(6, 8, 1, 1, 1), (6, 6, 3, 1, 6), (6, 6, 5, 2, 6), (6, 4, 1, 2, 2), (6, 4, 3, 1, 1)],
)
def test_a_dynamic_convolution_is_a_convolution_per_clip_with_the_mixed_kernel(
    channels_in, channels_out, kernel, stride, groups
):
    torch.manual_seed(0)
    conv = DynamicConv(channels_in, channels_out, 5, 2.0, kernel, stride, groups).double()
    x = torch.randn(3, channels_in, 9, 7, dtype=torch.float64)
    summary = torch.randn(3, 5, dtype=torch.float64)
    kernels = conv.weight[0, 0]
    weight, bias = conv.residuals.parameters()
    slow = []
    for clip, context in zip(x, summary, strict=True):
        scores = [weight[j] @ context + bias[j] for j in range(4)]
        shares = torch.stack([(score / 2.0).exp() for score in scores])
        parts = [shares[j] / shares.sum() * kernels[j] for j in range(4)]
        mixed = torch.stack(parts).sum(0).view(channels_out, channels_in // groups, kernel, kernel)
        slow.append(
            functional.conv2d(clip[None], mixed, None, stride, (kernel - 1) // 2, groups=groups)
        )
    # The same sums in float64, in another order.
    torch.testing.assert_close(conv(x, summary), torch.cat(slow), rtol=0, atol=1e-12)


def test_a_high_temperature_uses_all_kernels_alike():
    torch.manual_seed(0)
    hot = DynamicConv(4, 6, 5, temperature=1e9).double()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    context = torch.randn(2, 5, dtype=torch.float64)
    mean_kernel = hot.weight.mean(2).view(6, 4, 1, 1)
    # Scores of order 1 over 1e9 leave shares of 1/4 within 1e-9.
    torch.testing.assert_close(
        hot(x, context), functional.conv2d(x, mean_kernel), rtol=0, atol=1e-7
    )


def test_a_dynamic_relu_without_coefficients_is_a_relu():
    torch.manual_seed(0)
    activation = DynamicReLU(4, 5)
    for parameter in activation.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(activation(x, torch.randn(2, 5)), x.relu())


def test_dynamic_blocks_can_stand_only_where_a_mobilenet_weighs_its_channels():
    model = DyMN(5, 0.4, dynamic_blocks="replace_se")
    kinds = [type(layer) for layer in model.layers]
    assert kinds == (
        [InvertedResidual] * 3 + [DynamicBlock] * 3 + [InvertedResidual] * 4 + [DynamicBlock] * 5
    )


def test_its_static_blocks_are_those_of_a_mobilenet_and_the_others_those_of_a_dymn():
    own = {k: v.shape for k, v in DyMN(5, 0.4, dynamic_blocks="replace_se").state_dict().items()}
    dynamic = {k: v.shape for k, v in DyMN(5, 0.4).state_dict().items()}
    static = {
        f"layers.{int(parts[1]) - 1}.{parts[2]}": value.shape
        for key, value in MobileNet(5, 0.4).state_dict().items()
        if len(parts := key.split(".", 2)) == 3 and parts[2].startswith("block.")
    }
    layers = {key: shape for key, shape in own.items() if key.startswith("layers.")}
    for number in range(15):
        source = dynamic if number in {3, 4, 5, 10, 11, 12, 13, 14} else static
        of_layer = {k: s for k, s in layers.items() if k.startswith(f"layers.{number}.")}
        assert of_layer == {k: s for k, s in source.items() if k.startswith(f"layers.{number}.")}
    others = {key: shape for key, shape in dynamic.items() if not key.startswith("layers.")}
    assert {key: shape for key, shape in own.items() if key not in layers} == others


def test_a_partly_dynamic_network_computes_its_blocks_in_their_order():
    torch.manual_seed(0)
    model = DyMN(5, 0.1, dynamic_blocks="replace_se").eval()
    x = torch.randn(2, 1, 64, 20)
    step = model.in_c(x)
    for layer in model.layers:
        step = layer(step)
    embedding_BD = model.out_c(step).mean((2, 3))
    assert torch.equal(model(x)[1], embedding_BD)


def test_temperature_changes_the_logits_but_not_the_keys():
    torch.manual_seed(0)
    cold, hot = DyMN(5, 0.2).eval(), DyMN(5, 0.2, temperature=30.0).eval()
    with torch.no_grad():
        for parameter in cold.parameters():
            parameter.mul_(3)
    hot.load_state_dict(cold.state_dict())
    x = torch.randn(2, 1, 64, 20)
    # Float32 noise is below 1e-3 of the logits; another mixture of kernels is not.
    assert (cold(x)[0] - hot(x)[0]).abs().max() > 1e-2 * cold(x)[0].abs().max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_classes": 0}, "n_classes is 0"),
        ({"n_classes": 10, "width": -1.0}, "width is -1.0"),
        ({"n_classes": 10, "temperature": 0.0}, "temperature is 0.0"),
        ({"n_classes": 10, "dynamic_blocks": "some"}, "dynamic_blocks is 'some'.*all, replace_se"),
    ],
)
def test_impossible_settings_are_refused_by_their_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        DyMN(**arguments)
