"""TF-SepNet, CNN-GRU and Rep-Mobile: golden logits on which two writings agree, and published sizes."""

import pytest
import student_golden
import torch
from plain_students import WRITINGS, compute_plain_logits
from torch import nn

from students import ARCHITECTURES, build
from students.cnn_gru import GRU
from students.complexity import OverBudget, check_budget, measure_complexity
from students.parameters import count_parameters
from students.tf_sepnet import AdaptiveResidualNorm, ResidualNorm


@pytest.mark.parametrize("name", WRITINGS)
def test_both_writings_have_the_golden_logits(name):
    golden = student_golden.load(f"models/{name}")
    model = build(name, n_classes=10)
    student_golden.fill_by_key(model, golden)
    student_golden.assert_equals_golden(model, golden, "key")
    state = model.state_dict()
    student_golden.assert_equals_golden(
        model, golden, "key", lambda x: compute_plain_logits(name, state, x)
    )


@pytest.mark.parametrize(
    ("name", "shares"), [("tf_sepnet", [0.1] * 9), ("cnn_gru", [0.3, 0.5]), ("rep_mobile", [])]
)
def test_training_drops_the_published_shares_of_the_values(name, shares):
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d)
    modules = build(name, n_classes=10).modules()
    assert [each.p for each in modules if isinstance(each, kinds)] == shares


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_residual_norm_forgets_the_level_and_the_gain_of_a_band(adaptive):
    norm = AdaptiveResidualNorm(3) if adaptive else ResidualNorm(3)
    maps = torch.randn(2, 3, 4, 50)
    band_gain = torch.tensor([1.0, 3.0, 0.2, 7.0]).view(1, 1, 4, 1)
    share = 0.5 if adaptive else 0.1
    inside, moved = (
        (norm(each) - share * each) / (1 - share if adaptive else 1)
        for each in (maps, band_gain * maps + 5)
    )
    torch.testing.assert_close(moved, inside, rtol=0, atol=1e-3)
    torch.testing.assert_close(inside.mean((1, 3)), torch.zeros(2, 4), rtol=0, atol=1e-5)


def test_the_gru_is_that_of_torch():
    ours, torchs = GRU(5, 7), nn.GRU(5, 7, batch_first=True)
    ours.load_state_dict(torchs.state_dict())
    steps = torch.randn(3, 4, 5)
    torch.testing.assert_close(ours(steps), torchs(steps)[0])
    costs = [measure_complexity(each, (1, 4, 5)) for each in (ours, torchs)]
    assert (costs[0].macs, costs[0].params) == (costs[1].macs, costs[1].params)


def test_a_gru_counts_as_float32_in_int8_and_nothing_else_of_the_catalogue_does():
    student = build("cnn_gru", n_classes=10)
    in_gru = sum(each.numel() for each in student.recurrence.parameters())
    assert in_gru == 15_744
    cost = _measure("cnn_gru")
    assert cost.params_in_float32 == in_gru
    assert cost.parameter_bytes("int8") == cost.params + 3 * in_gru == 105_403
    with pytest.raises(OverBudget, match="105,403 bytes of parameters at int8"):
        check_budget(cost, student="cnn_gru", max_bytes=105_402)
    others = [build(name, n_classes=10) for name in ARCHITECTURES if name != "cnn_gru"]
    assert not any(count_parameters(each).in_float32 for each in others)


def test_published_sizes_as_they_were_printed():
    # arXiv:2309.08200, tables 2 and 4: thousands of parameters, millions of MACs.
    for name, params, macs in (("tf_sepnet_40", 53.4, 7.03), ("tf_sepnet_80", 196.7, 24.2)):
        cost = _measure(name)
        assert round(cost.params / 1e3, 1) == params
        assert round(cost.macs / 1e6, 2 if macs == 7.03 else 1) == macs
    without = _measure("tf_sepnet_40", adaptive_norm=False)
    assert round(without.params / 1e3, 1) == 52.3
    # SNTL-NTU's complexity.json: bytes at float16 of each device's model, which are all the same.
    assert _measure("cnn_gru").parameter_bytes("fp16") == 116_342


def _measure(name, **arguments):
    return measure_complexity(
        build(name, n_classes=10, **arguments), ARCHITECTURES[name].input_shape
    )
