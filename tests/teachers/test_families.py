"""Laws that several families of teachers share."""

import functools

import pytest
import torch

from teachers.cp_resnet import CPResNet
from teachers.dymn import DyMN
from teachers.mobilenet import MobileNet, round_channels


@pytest.mark.parametrize(
    "make",
    [CPResNet, functools.partial(DyMN, width=0.2), functools.partial(MobileNet, width=0.2)],
    ids=["cp_resnet", "dymn", "mobilenet"],
)
def test_clips_of_a_batch_do_not_see_each_other_in_evaluation(make):
    torch.manual_seed(0)
    model = make(10).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x = torch.randn(3, 1, 64, 33, dtype=torch.float64)
    # float64: another order of sums, for another batch size, stays far below 1e-12.
    alone = torch.cat([model(clip[None])[0] for clip in x])
    assert alone.std() > 0
    torch.testing.assert_close(model(x)[0], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [DyMN, MobileNet])
@pytest.mark.parametrize("width", [0.1, 0.2, 0.4])
@pytest.mark.parametrize(("n_bands", "n_frames"), [(256, 65), (128, 100), (33, 7)])
def test_any_size_of_input_gives_finite_logits_and_every_parameter_a_gradient(
    make, width, n_bands, n_frames
):
    torch.manual_seed(0)
    model = make(7, width)
    logits_BK, embedding_BD = model(torch.randn(3, 1, n_bands, n_frames))
    assert logits_BK.shape == (3, 7)
    assert embedding_BD.shape == (3, 6 * round_channels(160 * width))
    logits_BK.square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
