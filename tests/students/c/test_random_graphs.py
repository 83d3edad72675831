"""Random graphs of the operators that students have."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from c_students import (
    compile_c,
    compute_logits,
    compute_reference,
    needs_gcc,
    needs_vnni,
    write_program,
)
from hypothesis import HealthCheck, given, note, settings
from random_graphs import describe_graph, random_graphs

FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=250)


def check_logits(model):
    note(describe_graph(model))
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    clips = np.random.default_rng(0).normal(0.3, 1.0, (3, *shape[1:])).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        write_program(model, Path(folder))
        found = compute_logits(compile_c(Path(folder), "-O0"), clips, rubbish="\x7f")
    np.testing.assert_array_equal(found, compute_reference(model, clips))


@needs_gcc
@needs_vnni
@given(model=random_graphs())
@FEW
def test_c_of_any_graph_computes_the_logits_of_onnx_runtime(model):
    check_logits(model)


@needs_gcc
@needs_vnni
@pytest.mark.slow
@given(model=random_graphs(longest=12))
@MANY
def test_c_of_many_longer_graphs_computes_the_logits_of_onnx_runtime(model):
    check_logits(model)
