"""A student that tells loud from quiet, and sound for it."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RATE = 8_000
CLASSES = ("quiet", "loud")


def write_model(file, *, takes_waveforms=True, **changed):
    """Write a student that calls a clip loud if its mean power is above 0.01."""
    shape = ["batch", RATE]
    nodes = [
        helper.make_node("Mul", ["waveforms", "waveforms"], ["power"]),
        helper.make_node("ReduceMean", ["power", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["mean", "threshold"], ["above"]),
        helper.make_node("Mul", ["above", "directions"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "loudness",
        [helper.make_tensor_value_info("waveforms", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(np.array([1]), "axes"),
            numpy_helper.from_array(np.float32(0.01), "threshold"),
            numpy_helper.from_array(np.array([[-500, 500]], dtype=np.float32), "directions"),
        ],
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    facts = {
        "classes": CLASSES,
        "sample_rate": RATE,
        "clip_samples": RATE,
        "takes_waveforms": takes_waveforms,
    }
    facts |= changed
    helper.set_model_props(model, {name: json.dumps(value) for name, value in facts.items()})
    onnx.save(model, file)
    return file


def tone(level, rate=RATE, seconds=1.0, hertz=440.0):
    t = np.arange(round(rate * seconds)) / rate
    return (level * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def as_pcm(samples):
    return np.rint(32767 * samples).astype("<i2").tobytes()
