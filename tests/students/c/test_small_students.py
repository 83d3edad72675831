"""The small students of the tests in this folder."""

import onnx
import pytest
from c_students import SMALL_STUDENTS, export_int8_model, load_int8_model


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_STUDENTS)
def test_the_small_students_have_the_graphs_that_an_export_writes_today(name):
    stored, exported = load_int8_model(name), export_int8_model(SMALL_STUDENTS[name])
    assert list_operators(stored) == list_operators(exported), (
        "PYTHONPATH=.:tests python tests/c_students.py"
    )


def list_operators(model: onnx.ModelProto):
    """Return what a graph computes, without its numbers."""
    return [(node.op_type, node.input, node.output, node.attribute) for node in model.graph.node]
