"""A frozen network in an ONNX file, which hears the pitch of tones."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from teachers.backbones import OnnxInput

RATE = 16_000
N_DIMS = 12
ONNX_INPUT = OnnxInput(sample_rate=RATE)


def write_backbone(file: Path, seed: int = 0) -> str:
    """Write waveforms [B, S] -> mean size of the outputs of some filters [B, D]; return its name."""
    filters = np.random.default_rng(seed).normal(size=(N_DIMS, 1, 64)).astype(np.float32)
    steps = [
        helper.make_node("Unsqueeze", ["waveforms", "channel"], ["signal"]),
        helper.make_node("Conv", ["signal", "filters"], ["filtered"], strides=[32]),
        helper.make_node("Abs", ["filtered"], ["sizes"]),
        helper.make_node("ReduceMean", ["sizes", "time"], ["embedding"], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(filters, "filters"),
        numpy_helper.from_array(np.array([1]), "channel"),
        numpy_helper.from_array(np.array([2]), "time"),
    ]
    takes = helper.make_tensor_value_info("waveforms", TensorProto.FLOAT, ["B", "S"])
    gives = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", N_DIMS])
    graph = helper.make_graph(steps, "tiny", [takes], [gives], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, file)
    return f"onnx:{file}"
