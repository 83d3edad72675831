import pytest
import student_golden
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

from students.complexity import Complexity, measure_complexity


class _Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class _OwnParametersBesideAChild(nn.Module):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.weight = nn.Parameter(torch.zeros(4))
        self.child = nn.Identity()

    def forward(self, x):
        return self.child(x) * self.gamma


class _OwnParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(7))
        self.weight = nn.Parameter(torch.zeros(4))
        self.my_bias = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return x


class _FunctionalLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return functional.linear(x, self.linear.weight, self.linear.bias)


def _pruned():
    convolution = nn.Conv2d(4, 8, 3)
    mask = torch.ones_like(convolution.weight)
    mask.view(-1)[: mask.numel() // 4] = 0
    return prune.custom_from_mask(convolution, "weight", mask)


CASES = {
    "Conv1d 4->8 k3 bias": lambda: nn.Conv1d(4, 8, 3),
    "Conv2d 4->8 k3 bias": lambda: nn.Conv2d(4, 8, 3),
    "Conv2d depthwise 8 k3 same bias": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8),
    "Conv2d depthwise 8 k4 same bias (even kernel)": lambda: nn.Sequential(
        nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(8, 8, 4, groups=8)
    ),
    "ConvTranspose2d 4->8 k3": lambda: nn.ConvTranspose2d(4, 8, 3),
    "BatchNorm2d 8": lambda: nn.BatchNorm2d(8),
    "BatchNorm1d 8 batch 2": lambda: nn.BatchNorm1d(8),
    "LayerNorm 8 on (1,5,8)": lambda: nn.LayerNorm(8),
    "Linear 8->10 on (1,8)": lambda: nn.Linear(8, 10),
    "Linear 8->10 on (1,5,8): tokens are not multiplied": lambda: nn.Linear(8, 10),
    "GELU": nn.GELU,
    "ReLU": nn.ReLU,
    "AvgPool2d 3": lambda: nn.AvgPool2d(3),
    "AdaptiveAvgPool2d 1": lambda: nn.AdaptiveAvgPool2d(1),
    "GRU 8->6 on (1,5,8) batch_first": lambda: nn.GRU(8, 6, batch_first=True),
    "MultiheadAttention 8x2 in a module": _Attention,
    "non-leaf module with own parameters (gamma[1], weight[4]) + Identity child": (
        _OwnParametersBesideAChild
    ),
    "leaf module with gamma[7], weight[4], my_bias[4]": _OwnParameters,
    "Linear used through F.linear only": _FunctionalLinear,
    "pruned Conv2d (weight_orig/weight_mask, a quarter zero)": _pruned,
}


@pytest.mark.parametrize(
    "case", student_golden.load("nessi_cases")["cases"], ids=lambda case: case["case"]
)
def test_counts_are_those_of_nessi(case):
    complexity = measure_complexity(CASES[case["case"]](), case["input"])
    assert (complexity.macs, complexity.params) == (case["macs"], case["params"])


class _Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(8, 8)
        self.never_called = nn.Linear(8, 3)

    def forward(self, x):
        return self.shared(self.shared(x))


def test_macs_count_calls_and_params_count_modules():
    complexity = measure_complexity(_Twice(), (1, 8))
    assert complexity.macs == 2 * 72
    assert complexity.params == 72 + 27


def test_tied_parameters_are_counted_once():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    assert measure_complexity(model, (1, 8)).params == 64 + 8 + 8


@pytest.mark.parametrize(("precision", "factor"), [("int8", 1), ("fp16", 2), ("fp32", 4)])
def test_bytes_follow_the_precision(precision, factor):
    complexity = Complexity(macs=0, params=10, peak_activations=7)
    assert complexity.parameter_bytes(precision) == 10 * factor
    assert complexity.peak_activation_bytes(precision) == 7 * factor


class _Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(100, 100), nn.Linear(100, 100)

    def forward(self, x):
        return x + self.two(self.one(x))


def test_peak_memory_of_a_chain_is_its_largest_layers_input_and_output():
    model = nn.Sequential(nn.Linear(10, 100), nn.Linear(100, 50), nn.Linear(50, 1))
    # The caller holds the model's input to the end: 10 beside the 100 and 50.
    assert measure_complexity(model, (1, 10)).peak_activations == 10 + 100 + 50


def test_peak_memory_includes_what_a_skip_keeps():
    assert measure_complexity(_Skip(), (1, 100)).peak_activations == 300


def test_a_view_takes_no_memory_of_its_own():
    model = nn.Sequential(nn.Linear(10, 100), nn.Unflatten(1, (10, 10)), nn.Flatten())
    assert measure_complexity(model, (1, 10)).peak_activations == 110


class _LearntInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(1, 100))
        self.linear = nn.Linear(100, 10)

    def forward(self, x):
        return x + self.linear(self.start)


def test_a_parameter_as_an_input_is_no_activation():
    # Neither are the model's input and its output, which no layer has seen.
    assert measure_complexity(_LearntInput(), (1, 10)).peak_activations == 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_peak_memory_counts_values_of_any_type(dtype):
    model = nn.Sequential(nn.Linear(10, 100), nn.Linear(100, 50)).to(dtype)
    assert measure_complexity(model, (1, 10)).peak_activations == 160


def test_measuring_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    measure_complexity(model, (1, 1, 8, 8))
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_model_that_fails_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(8, 8)).train()
    with pytest.raises(RuntimeError, match="shape"):
        measure_complexity(model, (1, 9))
    assert model.training
    assert model[0].training
    assert not model[0]._forward_hooks
