"""Laws of the CP-ResNet teachers."""

import pytest
import torch

from teachers.cp_resnet import BasicBlock, CPResNet


def test_a_fresh_model_gives_every_class_the_logit_0():
    torch.manual_seed(0)
    model = CPResNet(10).eval()
    assert model(torch.randn(2, 1, 64, 33))[0].abs().max() == 0


def test_a_fresh_block_is_its_shortcut():
    torch.manual_seed(0)
    block = BasicBlock(8, 8, kernels=(3, 3)).eval()
    x = torch.rand(2, 8, 5, 4)
    assert torch.equal(block(x), x)


def test_every_model_of_a_process_starts_alike():
    torch.manual_seed(0)
    for _ in range(3):
        weight = CPResNet(10).get_parameter("stage1.block2.conv1.weight")
        # sqrt(2 / (3 * 3 * 32)) / sqrt(4 blocks); of 9,216 numbers the std is known within 0.8 %.
        assert weight.std().item() == pytest.approx(0.0417, rel=0.04)


def test_shortcuts_and_the_first_convolution_start_by_their_fans():
    torch.manual_seed(0)
    model = CPResNet(10)
    # 5,888 and 800 normal numbers: their std is known within 1 % and 2.5 %.
    shortcut = model.get_parameter("stage3.block1.shortcut.conv.weight")
    assert shortcut.std().item() == pytest.approx((2 / 92) ** 0.5, rel=0.05)
    first = model.get_parameter("in_c.0.weight")
    assert first.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.12)


def test_the_embedding_is_the_average_of_the_last_stage():
    torch.manual_seed(0)
    model = CPResNet(10).eval()
    seen = []
    model.stage3.register_forward_hook(lambda module, inputs, output: seen.append(output))
    embedding_BD = model(torch.randn(2, 1, 64, 33))[1]
    assert torch.equal(embedding_BD, seen[0].mean((2, 3)))


@pytest.mark.parametrize(
    ("n_classes", "base_channels", "message"),
    [(0, 32, "n_classes is 0"), (10, 8, "base_channels is 8"), (10, 33, "base_channels is 33")],
)
def test_impossible_sizes_are_refused_by_their_value(n_classes, base_channels, message):
    with pytest.raises(ValueError, match=message):
        CPResNet(n_classes, base_channels)


def test_the_smallest_allowed_model_works():
    logits_BK, embedding_BD = CPResNet(3, base_channels=10)(torch.randn(2, 1, 64, 33))
    assert (logits_BK.shape, embedding_BD.shape) == ((2, 3), (2, 4))
