"""A student as an ONNX model: in float32, float16 or int8, with its front-end inside if asked.

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

from audio.log_mel import FrontEnd, LogMel

OPSET = 20
"""The first with the exact GELU as one operator."""
FRONT_END = "front_end/"
"""What the names of a front-end's constants begin with: they are no parameters of the student."""
_LOG_MELS, _WAVEFORMS, _LOGITS = "log_mels", "waveforms", "logits"


def student_model(student: nn.Module, input_shape: Sequence[int]) -> onnx.ModelProto:
    """A student in evaluation as it is: log_mels [B, C, F, T] to logits [B, K], for any B.

    Args:
        student: in float32; stays as it is.
        input_shape: of one clip, (1, C, F, T).
    """
    return _exported(student, input_shape, _LOG_MELS, _LOGITS)


def front_end_model(front_end: FrontEnd, n_samples: int) -> onnx.ModelProto:
    """A front-end: waveforms [B, S] between -1 and 1 to log_mels [B, C, F, T], for any B."""
    return _exported(_OneTransform(front_end), (1, n_samples), _WAVEFORMS, _LOG_MELS)


def with_front_end(student: onnx.ModelProto, front_end: onnx.ModelProto) -> onnx.ModelProto:
    """Both as one model: waveforms [B, S] to logits [B, K]."""
    first = compose.add_prefix(front_end, FRONT_END, rename_inputs=False)
    joints = [(first.graph.output[0].name, student.graph.input[0].name)]
    return compose.merge_models(first, student, io_map=joints)


def in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose parameters are float16.

    They are widened once, when a runtime loads the model, and computed with in float32: a CPU has
    no other kernels, and sums of squares over a spectrogram do not fit into float16.
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


def labelled(model: onnx.ModelProto, facts: Mapping[str, object]) -> bytes:
    """The file, with what its reader must know as its metadata: one JSON value a name."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    helper.set_model_props(copied, {name: json.dumps(value) for name, value in facts.items()})
    onnx.checker.check_model(copied)
    return copied.SerializeToString()


def parameter_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all numbers that the model holds, but for those of its front-end."""
    return sum(
        numpy_helper.to_array(tensor).nbytes
        for tensor in model.graph.initializer
        if not tensor.name.startswith(FRONT_END)
    )


class _OneTransform(LogMel):
    """The same log-mels, by the transform that ONNX has an operator for."""

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


def _exported(
    module: nn.Module, input_shape: Sequence[int], input_name: str, output_name: str
) -> onnx.ModelProto:
    # A batch of one would be taken for the only size there is.
    example = torch.zeros(2, *input_shape[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the exporter about itself
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
    """Drop what the exporter notes of source files: more bytes than the student, and paths."""
    del model.graph.value_info[:]
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
