"""How numbers between two integer layers are rounded to codes in C."""

import subprocess

import numpy as np
import onnxruntime
from c_students import GCC, WARNINGS, needs_gcc
from onnx import TensorProto, helper

from students.c import program

STEP, ZERO = np.float32(0.0347), 117
ROUND = """\
#include <stdio.h>

#include "numbers.h"

int main(void) {
  float value;
  while (fread(&value, sizeof value, 1, stdin) == 1) putchar(quantise(value, STEP, ZERO));
  return 0;
}
"""


def quantise_in_c(values, folder):
    (folder / "round.c").write_text(ROUND)
    where = f"-I{program.__file__.rpartition('/')[0]}"
    defined = [f"-DSTEP={float(STEP)}f", f"-DZERO={ZERO}"]
    command = [GCC, *WARNINGS, where, *defined, "round.c", "-o", "round"]
    subprocess.run(command, cwd=folder, check=True)
    done = subprocess.run(
        folder / "round", input=values.tobytes(), stdout=subprocess.PIPE, check=True
    )
    return np.frombuffer(done.stdout, np.uint8)


def quantise_in_onnx_runtime(values):
    node = helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["y"])
    constants = [
        helper.make_tensor("step", TensorProto.FLOAT, [], [STEP]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [ZERO]),
    ]
    takes, gives = (
        helper.make_tensor_value_info(name, kind, [len(values)])
        for name, kind in (("x", TensorProto.FLOAT), ("y", TensorProto.UINT8))
    )
    graph = helper.make_graph([node], "rounding", [takes], [gives], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": values})[0]


@needs_gcc
def test_numbers_near_ties_and_beyond_all_codes_get_the_codes_of_onnx_runtime(tmp_path):
    ties = (np.arange(-130, 150) + np.float32(0.5)) * STEP
    far = np.array([0, 1e9, -1e9, 3e38, -3e38, np.inf, -np.inf], np.float32)
    near = [np.nextafter(ties, np.float32(side * np.inf)) for side in (-1, 1)]
    values = np.concatenate([ties, *near, far]).astype(np.float32)
    by_inverse = np.rint(values[: len(ties)] * (np.float32(1) / STEP))
    assert (by_inverse != np.rint(values[: len(ties)] / STEP)).any(), "no tie tells them apart"
    np.testing.assert_array_equal(quantise_in_c(values, tmp_path), quantise_in_onnx_runtime(values))
