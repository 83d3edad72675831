"""Sums of int8 graphs along one axis: the same bits wherever they are computed."""

import numpy as np
import onnxruntime
import pytest
from c_students import SMALL_STUDENTS, load_int8_model, make_clips, needs_vnni
from onnx import TensorProto, helper, numpy_helper

from students.export.exact_sums import ExactSums

SHAPE = (1, 40, 64, 17)
STEP = np.float32(0.0137)
EVERYWHERE = [
    (threads, level)
    for threads in (1, 16)
    for level in (
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    )
]
"""Numbers of threads, and whether maps are laid out as this processor has them best."""


def make_graph(kind, axes, keepdims=1, shape=SHAPE):
    """Return a graph from codes over a rounded map to a reduction of it."""
    nodes = [
        helper.make_node("DequantizeLinear", ["map.integers", "map.scale", "map.zero"], ["map"]),
        helper.make_node(kind, ["map", "axes"], ["reduced"], keepdims=keepdims),
    ]
    given = helper.make_tensor_value_info("map.integers", TensorProto.UINT8, shape)
    result = helper.make_tensor_value_info("reduced", TensorProto.FLOAT, None)
    constants = {"map.scale": STEP, "map.zero": np.uint8(0), "axes": np.array(axes, np.int64)}
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    return helper.make_graph(nodes, "reduction", [given], [result], tensors)


def rewrite(graph, *, is_rectified=True):
    sums = ExactSums(make_model(graph), {"map": "map.scale"} if is_rectified else {})
    nodes = [each for node in graph.node for each in sums.rewrite(node)]
    graph.ClearField("node")
    graph.node.extend(nodes)
    tensors = [numpy_helper.from_array(values, name) for name, values in sums.constants.items()]
    graph.initializer.extend(tensors)
    return graph


def run(model, given, threads):
    return run_all(model, given, threads, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)[0]


def run_all(model, given, threads, level):
    """Return all outputs of a model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.graph_optimization_level = threads, level
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: given})


def make_model(graph):
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def make_codes():
    return np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


@pytest.mark.parametrize("axis", [2, 3, -1])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_along_one_axis_is_that_of_its_integers(axis, keepdims):
    codes = make_codes()
    model = make_model(rewrite(make_graph("ReduceMean", [axis], keepdims)))
    sums = codes.astype(np.int64).sum(axis, keepdims=bool(keepdims))
    expected = sums.astype(np.float32) / np.float32(SHAPE[axis]) * STEP
    for threads in (1, 64):
        np.testing.assert_array_equal(run(model, codes, threads), expected)


@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceSum"])
def test_a_sum_of_bands_is_one_of_rows_in_any_number_of_threads(kind):
    codes = make_codes()
    model = make_model(rewrite(make_graph(kind, [3, 1])))
    assert "Transpose" in [node.op_type for node in model.graph.node]
    values = codes * np.float64(STEP)
    reduce = np.mean if kind == "ReduceMean" else np.sum
    first, *others = [run(model, codes, threads) for threads in (1, 2, 64)]
    np.testing.assert_allclose(first, reduce(values, axis=(1, 3), keepdims=True), rtol=1e-5)
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize(
    ("kind", "axes", "is_rectified", "shape"),
    [
        ("ReduceMean", [2, 3], True, SHAPE),  # as all students end: C knows its order
        ("ReduceMean", [1], True, SHAPE),
        ("ReduceSum", [2], True, SHAPE),
        ("ReduceMean", [2], False, SHAPE),  # 0 may be any integer there
        ("ReduceMean", [1, -1], True, SHAPE[:3]),
        ("ReduceSum", [1, 3], True, (1, 2, *SHAPE[1:])),
    ],
)
def test_other_reductions_stay_as_they_are(kind, axes, is_rectified, shape):
    graph = make_graph(kind, axes, shape=shape)
    before = [node.SerializeToString() for node in graph.node]
    after = rewrite(graph, is_rectified=is_rectified).node
    assert [node.SerializeToString() for node in after] == before


@needs_vnni
def test_a_tf_sepnet_has_the_same_sums_in_any_number_of_threads_and_any_layout():
    model = load_int8_model("tf_sepnet")
    show_sums(model)
    clips = make_clips(SMALL_STUDENTS["tf_sepnet"].shape)
    first, *others = [run_all(model, clips, threads, level) for threads, level in EVERYWHERE]
    assert len(first) > 20
    for other in others:
        for found, expected in zip(other, first, strict=True):
            np.testing.assert_array_equal(found, expected)


def show_sums(model):
    """Make what is divided by, or rounded after a mean, an output: a code would hide most differences."""
    names = [node.output[0] for node in model.graph.node if node.op_type in ("Sqrt", "ReduceMean")]
    shown = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    model.graph.output.extend(each for each in shown if each.name != model.graph.output[0].name)


def test_the_file_has_nothing_that_nothing_takes():
    graph = load_int8_model("tf_sepnet").graph
    taken = {name for node in graph.node for name in node.input} | {graph.output[0].name}
    assert {name for node in graph.node for name in node.output} <= taken
    assert {each.name for each in graph.initializer} <= taken
