import pytest

from students import RECIPES
from students.catalogue import build
from students.complexity import (
    Complexity,
    OverBudget,
    ParameterCount,
    check_budget,
    check_parameter_bytes,
    check_ram,
    find_widest_precision,
    measure_complexity,
)
from students.parameters import count_parameters


def of(macs=0, params=0):
    return Complexity(macs=macs, params=params, peak_activations=0)


def test_a_student_at_the_limits_passes_and_one_beyond_either_does_not():
    check_budget(of(macs=30_000_000, params=128_000), student="tiny")
    with pytest.raises(OverBudget, match="student tiny has 30,000,001 multiply-accumulates, expe"):
        check_budget(of(macs=30_000_001), student="tiny")
    with pytest.raises(OverBudget, match="128,001 bytes of parameters at int8, expected at most"):
        check_budget(of(params=128_001), student="tiny")


def test_bytes_depend_on_the_precision():
    check_budget(of(params=64_000), student="tiny", precision="fp16")
    with pytest.raises(OverBudget, match="128,002 bytes of parameters at fp16") as caught:
        check_budget(of(params=64_001), student="tiny", precision="fp16")
    assert (caught.value.student, caught.value.figure, caught.value.limit) == (
        "tiny",
        128_002,
        128_000,
    )


def test_other_budgets_can_be_given():
    check_budget(of(macs=50, params=5), student="tiny", max_macs=50, max_bytes=5)
    with pytest.raises(OverBudget, match="expected at most 49"):
        check_budget(of(macs=50), student="tiny", max_macs=49)
    with pytest.raises(OverBudget, match="expected at most 4"):
        check_budget(of(params=5), student="tiny", max_bytes=4)


def test_parameters_alone_are_held_to_the_same_limit():
    check_parameter_bytes(ParameterCount(128_000), student="tiny")
    with pytest.raises(OverBudget, match="student tiny has 128,002 bytes of parameters at fp16"):
        check_parameter_bytes(ParameterCount(64_001), student="tiny", precision="fp16")
    check_parameter_bytes(ParameterCount(128_001), student="tiny", max_bytes=200_000)


@pytest.mark.parametrize("name", RECIPES)
def test_the_challenge_allows_every_published_student_in_int8(name):
    recipe = RECIPES[name]
    student = build(recipe.model, n_classes=10, **recipe.arguments)
    params = count_parameters(student)
    check_parameter_bytes(params, student=name)
    if name == "cp_mobile_2023":
        assert params == ParameterCount(126_952)


def test_ram_is_held_to_that_of_a_device():
    check_ram(256_000, student="tiny", max_ram=256_000)
    with pytest.raises(OverBudget, match="tiny has 256,001 bytes of RAM in int8, expected at mo"):
        check_ram(256_001, student="tiny", max_ram=256_000)


@pytest.mark.parametrize(
    ("params", "expected"),
    [(32_000, "fp32"), (32_001, "fp16"), (64_001, "int8"), (128_001, "int8")],
)
def test_the_widest_precision_is_the_one_with_most_bits_that_fits(params, expected):
    assert find_widest_precision(of(params=params)) == expected


def test_cp_mobile_with_one_more_frame_is_over_the_budget():
    complexity = measure_complexity(build("cp_mobile_2023", n_classes=10), (1, 1, 256, 65))
    assert complexity.macs == 31_684_180
    with pytest.raises(OverBudget, match="student cp_mobile_2023 has 31,684,180 multiply"):
        check_budget(complexity, student="cp_mobile_2023")
