"""Branches are taught side by side, and counted, exported and quantised as one convolution."""

from types import SimpleNamespace

import pytest
import torch
from tiny import FRONT_END
from torch import nn

from logit_store import LogitKey
from students import build
from students.branches import Branches, fold_branches
from students.complexity import measure_complexity
from students.export import convert, onnx_file
from students.parameters import count_parameters
from students.quantise import QuantisedLayer, quantise, remove_rounding
from students.stored import StoredStudent

SHAPE = (1, 1, 48, 40)
KEY = LogitKey("demo", 25, "rep-0")


def give_statistics(module):
    """Give every norm statistics, scales and offsets of its own."""
    generator = torch.Generator().manual_seed(0)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            with torch.no_grad():
                each.running_mean.normal_(0, 0.3, generator=generator)
                each.running_var.uniform_(0.3, 2, generator=generator)
                each.weight.uniform_(-1.5, 1.5, generator=generator)
                each.bias.normal_(0, 0.3, generator=generator)
    return module.eval()


@pytest.fixture(scope="module")
def taught():
    torch.manual_seed(0)
    return give_statistics(build("rep_mobile", n_classes=4, base_channels=8))


@pytest.mark.parametrize(
    ("channels", "options", "n_branches"),
    [
        ((6, 6), {"groups": 6}, 5),
        ((6, 6), {"groups": 6, "stride": (2, 1)}, 4),
        ((4, 4), {}, 5),
        ((6, 6), {"groups": 2}, 5),
        ((4, 8), {"groups": 2}, 4),
    ],
    ids=["depthwise", "strided", "dense", "grouped", "widening"],
)
def test_one_convolution_computes_what_all_branches_do(channels, options, n_branches):
    n_in, n_out = channels
    kernels = ((5, 3), (3, 1), (1, 3), (1, 1))
    branches = give_statistics(Branches(n_in, n_out, kernels, **options))
    assert len(branches.convolutions) + (branches.inputs is not None) == n_branches
    maps = torch.randn(2, n_in, 11, 9)
    with torch.no_grad():
        torch.testing.assert_close(branches.fold()(maps), branches(maps), rtol=0, atol=1e-5)


def test_a_folded_student_has_the_logits_of_the_taught_one_and_no_branches(taught):
    folded = fold_branches(taught)
    inputs = 2 * torch.randn(3, *SHAPE[1:])
    with torch.no_grad():
        found, expected = folded.features_and_logits(inputs), taught.features_and_logits(inputs)
    assert expected[1].std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not any(isinstance(each, Branches) for each in folded.modules())
    assert sum(isinstance(each, Branches) for each in taught.modules()) == 6


def test_a_student_without_branches_is_returned_as_it_is():
    student = build("bcbl8", n_classes=4)
    assert fold_branches(student) is student


def test_a_student_is_counted_folded(taught):
    folded = measure_complexity(taught, SHAPE)
    assert folded.params < sum(each.numel() for each in taught.parameters())
    assert folded == measure_complexity(fold_branches(taught), SHAPE)
    # A bias for a norm is a number less per channel, and one more product per position.
    plain = measure_complexity(build("bcbl8", n_classes=4, strides=STRIDES), SHAPE)
    channels = sum(each.out_channels for each in _find_depthwise(fold_branches(taught)))
    assert folded.params == plain.params - channels


STRIDES = ((1, 1), (2, 2), (1, 1), (2, 1), (1, 1), (1, 1))


def _find_depthwise(student):
    return [m for m in student.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]


def test_int8_rounds_the_folded_convolution_with_its_relu():
    model = nn.Sequential(
        give_statistics(Branches(4, 4, ((3, 3), (1, 1)), groups=4)), nn.ReLU()
    ).eval()
    maps = torch.randn(2, 4, 7, 6)
    simulated = quantise(model, (1, 4, 7, 6))
    (layer,) = (each for each in simulated.modules() if isinstance(each, QuantisedLayer))
    assert layer.rectified
    with torch.no_grad():
        torch.testing.assert_close(remove_rounding(simulated)(maps), model(maps), rtol=0, atol=1e-5)


def test_a_file_in_float32_is_that_of_the_folded_student(taught, monkeypatch):
    taken = []
    monkeypatch.setattr(onnx_file, "convert_student", lambda model, shape: taken.append(model))
    stored = StoredStudent(
        KEY, taught, FRONT_END, tuned_in_int8=False, params=count_parameters(taught)
    )
    convert.convert_to_onnx(stored, SimpleNamespace(input_shape=SHAPE), "onnx")
    assert not any(isinstance(each, Branches) for each in taken[0].modules())


def test_folding_keeps_the_modes_and_leaves_the_taught_student_alone(taught):
    before = {name: value.clone() for name, value in taught.state_dict().items()}
    assert not any(each.training for each in fold_branches(taught).modules())
    assert all(torch.equal(value, before[name]) for name, value in taught.state_dict().items())
    random_state = torch.get_rng_state()
    fold_branches(taught)
    assert torch.equal(torch.get_rng_state(), random_state)
    learning = build("rep_mobile", n_classes=4, base_channels=8).train()
    assert all(each.training for each in fold_branches(learning).modules())
