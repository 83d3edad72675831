"""Converts students and front-ends to ONNX models, and models to files.

Dimensions: B clips in a batch, S samples of a clip, C channels, F mel bands, T frames, K classes.
"""

import copy
import json
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import compose, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from audio.front_ends import FrontEnd
from audio.log_mel import LogMel

OPSET = 20
"""The first opset with the exact GELU as one operator."""
FRONT_END = "front_end/"
"""Prefix of the names of a front-end's constants: they are not parameters of the student."""
_LOG_MELS, _WAVEFORMS, _LOGITS = "log_mels", "waveforms", "logits"


def convert_student(student: nn.Module, input_shape: Sequence[int]) -> onnx.ModelProto:
    """Convert a student in evaluation mode: log_mels [B, C, F, T] to logits [B, K], for any B.

    Args:
        student: in float32; is not changed.
        input_shape: shape of one clip, (1, C, F, T).
    """
    return _convert(student, input_shape, _LOG_MELS, _LOGITS)


def convert_front_end(front_end: FrontEnd, n_samples: int) -> onnx.ModelProto:
    """Convert a front-end: waveforms [B, S] between -1 and 1 to log_mels [B, C, F, T], for any B."""
    return _convert(_OneTransform(front_end), (1, n_samples), _WAVEFORMS, _LOG_MELS)


def prepend_front_end(student: onnx.ModelProto, front_end: onnx.ModelProto) -> onnx.ModelProto:
    """Join both to one model: waveforms [B, S] to logits [B, K]."""
    first = compose.add_prefix(front_end, FRONT_END, rename_inputs=False)
    joints = [(first.graph.output[0].name, student.graph.input[0].name)]
    return compose.merge_models(first, student, io_map=joints)


def convert_model_to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose parameters are float16.

    A runtime widens them once, when it loads the model, and computes in float32: a CPU has no other
    kernels, and sums of squares over a spectrogram do not fit into float16.
    """
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    casts = []
    for tensor in copied.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            name = tensor.name
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, f"{name}_half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *copied.graph.node]
    del copied.graph.node[:]
    copied.graph.node.extend(nodes)
    return copied


def serialise(model: onnx.ModelProto, facts: Mapping[str, object]) -> bytes:
    """Return the content of the file, with the facts as its metadata: one JSON value per name."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    helper.set_model_props(copied, {name: json.dumps(value) for name, value in facts.items()})
    onnx.checker.check_model(copied)
    return copied.SerializeToString()


def count_parameter_bytes(model: onnx.ModelProto) -> int:
    """Return the bytes of all numbers in the model, except those of its front-end."""
    return sum(
        numpy_helper.to_array(tensor).nbytes
        for tensor in model.graph.initializer
        if not tensor.name.startswith(FRONT_END)
    )


class _OneTransform(LogMel):
    """The same log-mels, computed with the transform that ONNX has an operator for."""

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__(front_end)
        offset_F1 = torch.full((front_end.mel_bands, 1), front_end.log_offset)
        self.register_buffer("offset_F1", offset_F1)

    def add_offset(self, power_BFT: Tensor) -> Tensor:
        # The exporter takes a single number below 1e-8 for 0 and drops the sum; a tensor it keeps.
        return power_BFT + self.get_buffer("offset_F1")

    def power_mel(self, waveforms_BS: Tensor) -> Tensor:
        front_end = self.front_end
        if front_end.pre_emphasis is not None:
            waveforms_BS = waveforms_BS[:, 1:] - front_end.pre_emphasis * waveforms_BS[:, :-1]
        half = front_end.n_fft // 2
        mirrored_BS = functional.pad(waveforms_BS, (half, half), mode="reflect")
        spectrum_BQT = torch.stft(
            mirrored_BS,
            front_end.n_fft,
            front_end.hop_samples,
            window=self.window,
            center=False,
            return_complex=True,
        )
        power_BTQ = torch.view_as_real(spectrum_BQT).square().sum(-1).transpose(1, 2)
        blocks = [
            power_BTQ[..., bins] @ self.get_buffer(f"bank_{index}")
            for index, bins in enumerate(self._bins)
        ]
        return torch.cat(blocks, dim=2).transpose(1, 2)


def _convert(
    module: nn.Module, input_shape: Sequence[int], input_name: str, output_name: str
) -> onnx.ModelProto:
    # The exporter would fix a batch size of one.
    example = torch.zeros(2, *input_shape[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the exporter warns about itself
        program = torch.onnx.export(
            copy.deepcopy(module).cpu().eval(),
            (example,),
            dynamo=True,
            input_names=[input_name],
            output_names=[output_name],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_origins(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def _forget_origins(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes about source files: they have paths, and are larger than the student."""
    del model.graph.value_info[:]
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
