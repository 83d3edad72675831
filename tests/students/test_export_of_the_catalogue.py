"""Every student of the catalogue as an ONNX file, in float32 and in int8."""

import numpy as np
import pytest
import torch
from torch import nn

from students import ARCHITECTURES, build, runtime
from students.cnn_gru import GRU
from students.export import onnx_file, onnx_int8
from students.export.measure import compare_with_torch
from students.quantise import calibrate, quantise, remove_rounding

FACTS = {"classes": ["a", "b"], "sample_rate": 8_000, "clip_samples": 8_000}
SMALLEST = {
    "Isotropic": (1, 24, 16),
    "Recursive": (1, 24, 16),
    "CPMobile": (1, 32, 16),
    "DSMN": (2, 64, 32),
    "TFSepNet": (1, 32, 32),
    "CNNGRU": (1, 256, 16),
    "RepMobile": (1, 32, 16),
}
"""Inputs (C, F, T) that keep the tests fast: the graphs are those of any size."""
ONE_OF_EACH_NETWORK = {
    "isotropic_v3": {"depth": 2},
    "recursive_2x2": {},
    "cp_mobile_2023": {},
    "dsmn_model3": {},
    "cnn_gru": {"channels": 8},
}
"""Odd and even kernels, response norm and strides, both kinds of blocks of a DSMN, a GRU."""


def make_published(name, arguments):
    """Return a student of the catalogue in which no clip's signal fades, and clips of many levels."""
    torch.manual_seed(0)
    student = build(name, n_classes=10, **arguments).eval()
    for module in student.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    levels = torch.linspace(0.5, 3, 8).view(-1, 1, 1, 1)
    return student, levels * torch.randn(8, *SMALLEST[type(student).__name__])


def run_model(model):
    content = onnx_file.serialise(model, FACTS | {"takes_waveforms": False})
    return runtime.load_exported(content).compute_logits


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *ONE_OF_EACH_NETWORK.items(),
        *(pytest.param(name, {}, marks=pytest.mark.slow) for name in ARCHITECTURES),
    ],
)
def test_each_student_of_the_catalogue_is_exported_as_it_is_and_in_int8(name, arguments):
    student, inputs = make_published(name, arguments)
    simulated = quantise(student, (1, *inputs.shape[1:]))
    calibrate(simulated, [inputs])
    model = onnx_file.convert_student(remove_rounding(simulated), (1, *inputs.shape[1:]))
    batches = [inputs[:5], inputs[5:]]
    in_float32 = compare_with_torch(student, run_model(model), batches)
    # Between clips: what is the same for all of them says nothing about what the layers do.
    spread = in_float32.torch_NK.std(axis=0).mean()
    assert in_float32.max_difference < 1e-4 * spread
    converted = onnx_int8.convert_to_integers(model, simulated)
    in_integers = run_model(converted)
    in_int8 = compare_with_torch(simulated, in_integers, batches)
    by_rounding = np.std(in_int8.torch_NK - in_float32.torch_NK)
    # A sum between two integers may be rounded to either, and layers follow; where two branches of a
    # DSMN or a TF-SepNet meet, more often.
    to_simulation = np.std(in_int8.exported_NK - in_int8.torch_NK)
    assert to_simulation < (0.2 if name.startswith(("dsmn", "tf_sepnet")) else 0.1) * spread
    assert to_simulation < by_rounding
    # What has no integers in the simulation has none in the file.
    recurrences = sum(isinstance(each, GRU) for each in student.modules())
    assert [node.op_type for node in converted.graph.node].count("GRU") == recurrences
    # So the exported file is no worse than the simulation.
    assert np.std(in_int8.exported_NK - in_float32.torch_NK) < 1.25 * by_rounding


def test_each_network_of_the_catalogue_is_exported_in_the_normal_run():
    exported = {ARCHITECTURES[name].network for name in ONE_OF_EACH_NETWORK}
    # A folded Rep-Mobile has the layers of CP-Mobile, and is in golden/students_int8; TF-SepNet takes longest.
    others = {"rep_mobile.RepMobile", "tf_sepnet.TFSepNet"}
    assert exported == {each.network for each in ARCHITECTURES.values()} - others
