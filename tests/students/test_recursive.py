import pytest
import student_golden
import torch
from student_golden import assert_equals_golden, fill_by_key

from students.recursive import Recursive

NAMES = ["recursiv_3x3", "recursiv_v2_2x2", "recursiv_v3_d2c3", "recursiv_v3_d3c2"]


def build(args):
    return Recursive(
        n_classes=args["n_classes"],
        filters=args["filters"],
        depth=args["depth"],
        columns=args["columns"],
        kernel=args["kernel_size"],
        patch=args["patch_size"],
    )


@pytest.mark.parametrize("rule", ["key", "pos"])
@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_those_of_the_published_model_under_its_own_names(name, rule):
    golden = student_golden.load(f"models/{name}")
    model = build(golden["args"])
    fill_by_key(model, golden, rule)
    assert_equals_golden(model, golden, rule)


def test_one_column_is_a_chain_of_cells_that_skip_to_their_own_input():
    model = Recursive(5, filters=8, depth=2, columns=1).eval()
    x = torch.randn(2, 1, 30, 20)
    expected = model.stem(x)
    for cell in model.mixer_blocks.values():
        half = cell.activation_block(cell.depthwise_conv(expected)) + expected
        expected = cell.activation_block2(cell.pointwise_conv(half))
    torch.testing.assert_close(model.features(x), expected.mean((2, 3)), rtol=0, atol=1e-6)


def test_a_grid_of_one_cell_is_built():
    assert Recursive(5, filters=8, depth=1, columns=1)(torch.randn(2, 1, 9, 9)).shape == (2, 5)
