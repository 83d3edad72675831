"""Whole channels are taken out of a student, the least important first."""

import itertools
from dataclasses import replace

import pytest
import torch

from students import ARCHITECTURES, RECIPES, build
from students.parameters import count_parameters
from students.prune import WIDTHS, find_width, narrow, plan_widths

WIDE = {
    "isotropic": {"filters": 12, "depth": 2, "patch": 8},
    "isotropic_mix": {"filters": 12, "depth": 2, "patch": 8},
    "recursive": {"filters": 12, "depth": 2, "columns": 2, "patch": 8},
    "dcase24_baseline": {"base_channels": 8, "expansion_rate": 3.0},
    "cp_mobile_2023": {"base_channels": 8, "expansion_rate": 3.0},
    "rep_mobile": {"base_channels": 8, "expansion_rate": 3.0},
}
NARROW = {"filters": 5, "expansion_rate": 1.0}


def make(model, **changes):
    torch.manual_seed(0)
    student = build(model, n_classes=4, **WIDE[model], **changes).eval()
    for tensor in student.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(0.1 * torch.rand_like(tensor) + 0.05)
    return student


def make_narrow(model):
    width = WIDTHS[ARCHITECTURES[model].network].argument
    arguments = WIDE[model] | {width: NARROW[width]}
    return build(model, n_classes=4, **arguments).eval()


@pytest.mark.parametrize("model", WIDE)
def test_channels_that_are_dead_are_those_that_are_removed_and_nothing_changes(model):
    wide, narrower = make(model), make_narrow(model)
    find_group = WIDTHS[ARCHITECTURES[model].network].find_group
    before, after = wide.state_dict(), narrower.state_dict()
    dead: dict[str, torch.Tensor] = {}
    for name, tensor in before.items():
        for dim, size in enumerate(tensor.shape):
            left = after[name].shape[dim]
            if size != left and "running_" not in name:
                group = find_group(name)
                if group not in dead:
                    dead[group] = torch.randperm(size)[: size - left]
                tensor.index_fill_(dim, dead[group], 0.0)
    narrow(wide, model, narrower)
    inputs = torch.rand(2, 1, 64, 32)
    with torch.no_grad():
        expected = wide(inputs)
        torch.testing.assert_close(narrower(inputs), expected, rtol=1e-4, atol=1e-4)


def test_channels_are_kept_in_their_order_and_the_student_that_is_pruned_stays():
    wide, narrower = make("isotropic"), make_narrow("isotropic")
    weight = wide.state_dict()["model.0.weight"].clone()
    narrow(wide, "isotropic", narrower)
    assert torch.equal(wide.state_dict()["model.0.weight"], weight)
    taken = narrower.state_dict()["model.0.weight"]
    rows = [next(i for i, each in enumerate(weight) if torch.equal(each, row)) for row in taken]
    assert rows == sorted(rows)
    assert len(rows) == 5


def test_neither_what_a_layer_hears_nor_its_size_decides_which_channels_are_kept():
    wide, narrower = make("isotropic"), make_narrow("isotropic")
    after, n_small = narrower.state_dict(), 12 - 5
    for name, tensor in wide.state_dict().items():
        for dim, size in enumerate(tensor.shape):
            if size != after[name].shape[dim]:
                heard = "running_" in name
                tensor.fill_(1e4 if name.startswith("classifier") else 1.0)
                small = tensor.narrow(dim, 0, n_small)
                small.mul_(1e6 if heard else 1.01 if name.startswith("classifier") else 0.9)
    narrow(wide, "isotropic", narrower)
    assert narrower.state_dict()["model.0.weight"].eq(1).all()


@pytest.mark.parametrize("name", ["isotropic", "recursive_2x2", "rep_mobile"])
def test_steps_go_down_to_the_widest_student_that_is_small_enough(name):
    recipe = RECIPES[name] if name in RECIPES else replace(RECIPES["isotropic"], model=name)
    width = find_width(recipe).argument

    def count(arguments):
        with torch.device("meta"):
            student = build(recipe.model, n_classes=10, **arguments)
            return count_parameters(student).total

    full = count(recipe.arguments)
    steps = plan_widths(recipe, 10, full // 2, 0.125)
    assert count(steps[-1]) <= full // 2 < count(steps[-2]) < count(steps[0])
    default = getattr(build(recipe.model, n_classes=10, **recipe.arguments), "n_features", None)
    widths = [each[width] for each in steps]
    assert all(after >= 0.875 * before for before, after in itertools.pairwise(widths))
    if width == "filters":
        assert widths[0] >= 0.875 * default
        wider = {**steps[-1], width: widths[-1] + 1}
        assert count(wider) > full // 2


@pytest.mark.parametrize(
    ("name", "most", "message"),
    [
        ("isotropic", 47_946, "has 47,946 parameters, which is no more than the 47,946"),
        ("isotropic", 10, "at its smallest filters, 1, it has .* more than the 10"),
        ("dsmn_model1", 10_000, "dsmn_model1 cannot be pruned, .* those that can: isotropic, "),
    ],
)
def test_what_cannot_be_pruned_is_refused_with_its_reason(name, most, message):
    recipe = replace(RECIPES["isotropic"], model=name)
    with pytest.raises(ValueError, match=message):
        plan_widths(recipe, 10, most, 0.125)


def test_students_that_differ_in_more_than_their_width_are_refused():
    other = build("isotropic", n_classes=4, **WIDE["isotropic"] | {"depth": 1})
    with pytest.raises(ValueError, match="layers of other names"):
        narrow(make("isotropic"), "isotropic", other)
