import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from int8_graphs import GraphMaker, make_small_graph

from students.c.graph import UnknownOperator
from students.c.program import StudentFacts, make_program
from students.c.ram import measure_ram

GOLDEN = Path(__file__).parents[2] / "golden" / "small_student.c"
FACTS = StudentFacts(
    member="small", classes=("bus", 'a "park"', "métro"), sample_rate=32_000, clip_samples=32_000
)


def test_the_text_of_a_small_student_is_the_one_that_was_read():
    text = make_program(make_small_graph(), FACTS).files["student.c"]
    if "TUTTI_WRITE_GOLDEN" in os.environ:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), (
        "read the difference; TUTTI_WRITE_GOLDEN=1 writes the file again"
    )


def test_the_same_student_gives_the_same_bytes_without_a_place_or_a_date():
    first, second = (make_program(make_small_graph(), FACTS).files for _ in range(2))
    assert first == second
    whole = "\n".join(first.values())
    assert not re.search(rf"{re.escape(str(Path.cwd()))}|/tmp/|20\d\d-", whole)


def test_the_size_of_the_arena_is_the_ram_that_is_measured():
    model = make_small_graph()
    program = make_program(model, FACTS)
    assert f"#define STUDENT_ARENA_BYTES {program.arena_bytes}\n" in program.files["student.h"]
    assert measure_ram(model) == program.arena_bytes


def test_a_deeper_student_needs_no_more_ram():
    def make(depth: int) -> onnx.ModelProto:
        made = GraphMaker(1, 8, 8)
        value = made.convolve(made.round("log_mels", "in"), "wide", (8, 1, 3, 3), pads=[1] * 4)
        for n in range(depth):
            given = made.round(value, f"before_{n}")
            value = made.convolve(given, f"deep_{n}", (8, 1, 3, 3), pads=[1] * 4, group=8)
            value = made.convolve(made.round(value, f"after_{n}"), f"mix_{n}", (8, 8, 1, 1))
        return end(made, made.round(value, "last"), 8)

    assert measure_ram(make(1)) == measure_ram(make(5))


def end(made: GraphMaker, value: str, n_inputs: int = 2) -> onnx.ModelProto:
    """Add a mean and a linear layer."""
    axes = made.constant("axes", [2, 3], np.int64)
    mean = made.add("ReduceMean", [value, axes], "mean", keepdims=0)
    made.classify(made.round(mean, "head.input"), "head", n_inputs)
    return made.finish()


def begin(n_bands: int = 6, n_frames: int = 6) -> tuple[GraphMaker, str]:
    """Return a graph with one layer, and its rounded output of 2 channels."""
    made = GraphMaker(1, n_bands, n_frames)
    sums = made.convolve(made.round("log_mels", "in"), "stem", (2, 1, 1, 1))
    return made, made.round(sums, "stem.output")


def use_softmax():
    made, value = begin()
    return end(made, made.add("Softmax", [value], "softmax", axis=1))


def use_float_weights():
    made, value = begin()
    weights = made.constant("float.weight", np.ones((2, 2, 1, 1)))
    return end(made, made.add("Conv", [value, weights], "in_float", kernel_shape=[1, 1]))


def use_float_input():
    made, value = begin()
    sums = made.convolve(made.add("Relu", [value], "relu"), "second", (2, 2, 1, 1))
    return end(made, made.round(sums, "second.output"))


def use_unrounded_sums():
    made, value = begin()
    return end(made, made.add("Relu", [made.convolve(value, "second", (2, 2, 1, 1))], "relu"))


def use_log_mels_in_float():
    made = GraphMaker(2, 6, 6)
    return end(made, made.add("Relu", ["log_mels"], "relu"))


def use_log_mels_without_an_axis():
    made = GraphMaker(1, 6, 6)
    shape = made.constant("shape", [0, 6, 6], np.int64)
    value = made.round(made.add("Reshape", ["log_mels", shape], "bands_as_channels"), "in")
    back = made.constant("back", [0, 1, 6, 6], np.int64)
    return end(made, made.add("Reshape", [value, back], "map"), n_inputs=1)


def use_two_grids():
    made = GraphMaker(2, 6, 6)
    both = [made.round("log_mels", "one"), made.round("log_mels", "other", scale=0.5)]
    return end(made, made.add("Add", both, "both"))


def use_gelu_of_a_sum():
    made, value = begin()
    return end(made, made.add("Gelu", [made.add("Add", [value, value], "sum")], "gelu"))


def use_halves_of_the_time():
    made, value = begin()
    made.nodes.append(
        onnx.helper.make_node("Split", [value], ["left", "right"], axis=3, num_outputs=2)
    )
    return end(made, made.add("Add", ["left", "right"], "both"))


def use_rows_of_one_position():
    made, value = begin(2, 1)
    made.nodes.append(
        onnx.helper.make_node("Split", [value], ["low", "high"], axis=2, num_outputs=2)
    )
    return end(made, made.add("Add", ["low", "high"], "both"))


def use_rows_of_overlapping_windows():
    made, value = begin()
    pooled = made.add("AveragePool", [value], "pool", kernel_shape=[3, 1], strides=[1, 1])
    made.nodes.append(
        onnx.helper.make_node("Split", [pooled], ["low", "high"], axis=2, num_outputs=2)
    )
    return end(made, made.add("Add", ["low", "high"], "both"))


def use_transposed_maps():
    made, value = begin()
    return end(made, made.add("Transpose", [value], "turned", perm=[0, 1, 3, 2]))


def use_means_of_bands():
    """As an exporter writes them, before `students.export.exact_sums` gives their sums an order."""
    made, value = begin()
    axes = made.constant("channels_and_frames", [1, 3], np.int64)
    means = made.add("ReduceMean", [value, axes], "of_bands", keepdims=1)
    return end(made, made.add("Sub", [value, means], "centred"))


def use_a_mean_of_frames_in_float():
    made, value = begin()
    axes = made.constant("frames", [3], np.int64)
    means = made.add("ReduceMean", [value, axes], "of_frames", keepdims=1)
    return end(made, made.add("Sub", [value, means], "centred"))


def use_bands_of_turned_maps():
    """Where the graph has frames before mel bands, as DSMN's has."""
    made = GraphMaker(2, 6, 6)
    turned = made.add("Transpose", ["log_mels"], "turned", perm=[0, 1, 3, 2])
    value = made.round(turned, "in")
    names = made.add("Transpose", [value], "bands", perm=[0, 2, 1, 3])
    rows = made.add("Reshape", [names, made.constant("rows", [0, 0, -1], np.int64)], "in_rows")
    axes = made.constant("row", [2], np.int64)
    means = made.add("ReduceMean", [rows, axes], "means", keepdims=1)
    back = made.add("Reshape", [means, made.constant("map", [0, 1, -1, 1], np.int64)], "back")
    return end(made, made.add("Sub", [value, back], "centred"))


def use_a_mean_without_its_axis():
    made, _ = begin()
    axes = made.constant("frames", [3], np.int64)
    numbers = made.add("Cast", ["stem.output.integers"], "numbers", to=1)
    mean = made.add("ReduceMean", [numbers, axes], "of_frames", keepdims=0)
    shape = made.constant("shape", [0, 2, 6, 1], np.int64)
    return end(made, made.add("Reshape", [mean, shape], "column"))


def use_integers_as_a_map():
    made, _ = begin()
    numbers = made.add("Cast", ["stem.output.integers"], "as_numbers", to=1)
    return end(made, made.add("Relu", [numbers], "relu"))


def use_a_cube():
    made, value = begin()
    return end(made, made.add("Pow", [value, made.constant("three", 3)], "cubes"))


def use_a_shuffle_of_rows():
    made, value = begin()
    shape = made.constant("parted", [0, 2, 2, 3, 6], np.int64)
    back = made.constant("whole", [0, 2, 6, 6], np.int64)
    made.add("Reshape", [value, shape], "viewed")
    turned = made.add("Transpose", ["viewed"], "turned", perm=[0, 1, 3, 2, 4])
    return end(made, made.add("Reshape", [turned, back], "shuffled"))


def make_column(made: GraphMaker, path: str) -> str:
    """Add a rounded layer with one frame of 2 channels and 6 mel bands; return its output."""
    axes = made.constant(f"{path}.axes", [3], np.int64)
    numbers = made.add("Cast", ["stem.output.integers"], f"{path}.numbers", to=1)
    mean = made.add("ReduceMean", [numbers, axes], f"{path}.mean", keepdims=1)
    sums = made.convolve(made.round(mean, f"{path}.input"), path, (2, 2, 1, 1))
    return made.round(sums, f"{path}.output")


def use_a_column_before_a_map():
    made, value = begin()
    both = made.add("Add", [make_column(made, "column"), value], "both")
    return end(made, made.round(both, "head.map"))


def use_a_column_and_a_row():
    made, _ = begin()
    column = make_column(made, "column")
    axes = made.constant("bands", [2], np.int64)
    numbers = made.add("Cast", ["stem.output.integers"], "row.numbers", to=1)
    row = made.add("ReduceMean", [numbers, axes], "row", keepdims=1)
    return end(made, made.add("Mul", [column, row], "both"))


def use_a_gru():
    """A GRU behind what an exporter prepares its inputs with."""
    made, value = begin()
    made.add("Shape", [value], "sizes")
    shape = made.constant("shape", [1, 1, 72], np.int64)
    steps = made.add("Reshape", [value, shape], "steps")
    weights = [made.constant(f"gru.{n}", np.ones((1, 3, n))) for n in (72, 1)]
    states = made.add("GRU", [steps, *weights], "states", hidden_size=1)
    return end(made, states, n_inputs=1)


def use_a_huge_bias():
    made, value = begin()
    sums = made.convolve(value, "second", (2, 2, 1, 1))
    made.constant("second.bias", [2**31 - 1, 0], np.int32)
    return end(made, made.round(sums, "second.output"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (use_softmax, r"operator Softmax \(softmax\): C is not written for it"),
        (use_float_weights, r"operator Conv \(in_float\): its weights are not int8"),
        (use_float_input, r"operator Conv \(second.sums\): its input is not int8"),
        (use_unrounded_sums, r"operator Conv \(second.sums\): its result is not rounded"),
        (use_log_mels_in_float, r"\(relu\): takes the log-mels before they are rounded"),
        (
            use_log_mels_without_an_axis,
            r"Reshape \(bands_as_channels\): from \(1, 6, 6\) to \(6, 6\): expected the same axes",
        ),
        (use_two_grids, r"operator QuantizeLinear \(other.integers\): .*more than one grid"),
        (use_gelu_of_a_sum, r"operator Gelu \(gelu\): expected codes"),
        (use_halves_of_the_time, r"operator Split \(left\): along axis 3"),
        (use_rows_of_one_position, r"operator Split \(low\): one position of a map"),
        (use_rows_of_overlapping_windows, r"operator Split .*rows of overlapping windows"),
        (
            use_means_of_bands,
            r"\(of_bands\): over axes \[1, 3\] of 4, expected \[2, 3\]: one number",
        ),
        (use_a_mean_of_frames_in_float, r"ReduceMean \(of_frames\): over axes \[3\] of 4"),
        (use_bands_of_turned_maps, r"operator Transpose \(bands\)"),
        (use_a_mean_without_its_axis, r"ReduceMean \(of_frames\): over axes \[3\] of 4"),
        (use_integers_as_a_map, r"operator Cast \(as_numbers\): expected codes in float32, for"),
        (use_a_cube, r"operator Pow \(cubes\): expected a square"),
        (use_a_shuffle_of_rows, r"operator Transpose \(turned\)"),
        (use_a_column_before_a_map, r"operator Add \(both\): its first operand is repeated"),
        (use_a_column_and_a_row, r"\(both\): shapes \(2, 1, 6\) and \(2, 6, 1\)"),
        (use_a_gru, r"operator GRU \(states\): a recurrence, which int8 leaves in float32"),
        (use_transposed_maps, r"operator Transpose \(turned\)"),
        (use_a_huge_bias, r"operator Conv \(second.sums\): sums of second may be 2,147,4"),
    ],
)
def test_what_c_is_not_written_for_is_refused_by_name(make, message):
    with pytest.raises(UnknownOperator, match=message):
        make_program(make(), FACTS)


def test_names_of_classes_are_strings_of_c():
    text = make_program(make_small_graph(), FACTS).files["student.c"]
    assert r'{"bus", "a \042park\042", "m\303\251tro"}' in text
