"""The integer layers in C against their definition and ONNX Runtime: on this machine, and on Arm in QEMU."""

import ctypes
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from c_students import needs_gcc
from integer_layers import (
    OF_STUDENTS,
    Layer,
    convolve_in_numpy,
    make_layer,
    make_random_shape,
    quantise_in_numpy,
)
from onnx import TensorProto, helper

from students.c.kernels import ConvolutionShape

KERNELS = Path(__file__).parents[3] / "students" / "c"
FLAGS = ("-std=c11", "-ffp-contract=off", "-Wall", "-Wextra", "-Wconversion", "-Werror")
GUARD = 64
"""Bytes around each buffer that no kernel may touch."""

CALLS = """
#include "kernels.h"
void pointwise(const convolution *l, const uint8_t *in, uint8_t *out, int16_t *s) { convolve_pointwise(l, in, out, s); }
void any(const convolution *l, const uint8_t *in, uint8_t *out, int16_t *s) { convolve(l, in, out, s); }
void channel(const convolution *l, int c, const uint8_t *in, const uint8_t *t, uint8_t *out, int16_t *s) {
  convolve_channel(l, c, in, t, out, s);
}
void channels(const convolution *l, const uint8_t *in, uint8_t *out, int16_t *s) { convolve_channels(l, in, out, s); }
void linear(const convolution *l, const uint8_t *in, float *out) { compute_linear(l, in, out); }
void quantise(const int32_t *sums, int count, float scale, int zero, uint8_t *out) {
  const rounding how = prepare_rounding(scale, zero);
  for (int n = 0; n < count; n++) out[n] = round_sum(sums[n], &how);
}
"""
NUMBERS = (
    *ConvolutionShape.__dataclass_fields__,
    "input_zero",
    "output_zero",
    "input_stride",
    "output_stride",
)


class Struct(ctypes.Structure):
    """The struct `convolution` of kernels.h."""

    _fields_ = (
        *((name, ctypes.c_int) for name in NUMBERS),
        *((name, ctypes.c_void_p) for name in ("weights", "bias", "scale")),
    )


class Kernels:
    """kernels.h as a library on this machine."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def convolve(
        self, layer: Layer, table: np.ndarray | None = None, *, in_place: bool = False
    ) -> np.ndarray:
        """Compute a layer's codes; no byte around its scratch and its output may change."""
        shape = layer.shape
        channel_in, channel_out = layer.codes[0].size, shape.out_height * shape.out_width
        several = shape.kernel == "convolve_channels"
        # Several outputs of a channel lie in its place without gaps; one begins where the channel begins.
        stride_in_place = channel_out if several else channel_in
        stride_out = stride_in_place if in_place else channel_out + 5
        size = max(layer.codes.size, shape.out_channels * stride_out)
        output = np.full(GUARD + size + GUARD, 0xA5, np.uint8)
        into = output[GUARD : GUARD + size]
        codes = into if in_place else layer.codes.ravel().copy()
        codes[: layer.codes.size] = layer.codes.ravel()
        scratch_bytes = shape.count_scratch_bytes()
        scratch = np.full(GUARD + scratch_bytes + GUARD, 0x5A, np.uint8)
        struct = self.describe(layer, channel_in, stride_out)
        self._call(layer, struct, codes, table, into, scratch[GUARD:])
        for buffer, value in ((output, 0xA5), (scratch, 0x5A)):
            assert (buffer[:GUARD] == value).all()
            assert (buffer[-GUARD:] == value).all()
        rows = into[: shape.out_channels * stride_out].reshape(shape.out_channels, stride_out)
        if not in_place:
            assert (rows[:, channel_out:] == 0xA5).all()
        return rows[:, :channel_out].reshape(-1, shape.out_height, shape.out_width)

    def quantise(self, sums: np.ndarray, scale: np.float32, zero: int) -> np.ndarray:
        """Round sums, int32, to codes."""
        codes = np.empty(len(sums), np.uint8)
        self.library.quantise(
            ctypes.c_void_p(sums.ctypes.data),
            len(sums),
            ctypes.c_float(scale),
            zero,
            ctypes.c_void_p(codes.ctypes.data),
        )
        return codes

    def compute_linear(self, layer: Layer) -> np.ndarray:
        """Compute a linear layer's outputs, float32."""
        output = np.empty(layer.shape.out_channels, np.float32)
        struct = self.describe(layer, 1, 1)
        self.library.linear(
            ctypes.byref(struct),
            ctypes.c_void_p(layer.codes.ctypes.data),
            ctypes.c_void_p(output.ctypes.data),
        )
        return output

    def describe(self, layer: Layer, channel_in: int, stride_out: int) -> Struct:
        numbers = asdict(layer.shape) | {
            "input_zero": layer.input_zero,
            "output_zero": layer.output_zero,
            "input_stride": channel_in,
            "output_stride": stride_out,
        }
        bias = None if layer.bias is None else layer.bias.ctypes.data
        return Struct(
            **numbers, weights=layer.weights.ctypes.data, bias=bias, scale=layer.scale.ctypes.data
        )

    def _call(
        self,
        layer: Layer,
        struct: Struct,
        codes: np.ndarray,
        table: np.ndarray | None,
        output: np.ndarray,
        scratch: np.ndarray,
    ) -> None:
        pointer = ctypes.c_void_p
        if layer.shape.kernel != "convolve_channel":
            named = {"convolve_pointwise": "pointwise", "convolve_channels": "channels"}
            function = getattr(self.library, named.get(layer.shape.kernel, "any"))
            function(
                ctypes.byref(struct),
                pointer(codes.ctypes.data),
                pointer(output.ctypes.data),
                pointer(scratch.ctypes.data),
            )
            return
        for channel in range(layer.shape.in_channels):
            self.library.channel(
                ctypes.byref(struct),
                channel,
                pointer(codes.ctypes.data + channel * struct.input_stride),
                pointer(table.ctypes.data) if table is not None else None,
                pointer(output.ctypes.data + channel * struct.output_stride),
                pointer(scratch.ctypes.data),
            )


def compile_kernels(folder: Path, *flags: str) -> Kernels:
    (folder / "calls.c").write_text(CALLS)
    command = ["gcc", "-O1", *FLAGS, *flags, f"-I{KERNELS}", "-shared", "-fPIC", "calls.c"]
    subprocess.run([*command, "-o", "calls.so"], cwd=folder, check=True)
    return Kernels(ctypes.CDLL(str(folder / "calls.so")))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    return compile_kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module")
def without_floats(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """The kernels as they round on a processor that has no floats."""
    folder = tmp_path_factory.mktemp("without_floats")
    return compile_kernels(folder, "-DSTUDENT_INTEGER_ROUNDING")


@needs_gcc
@pytest.mark.parametrize("name", OF_STUDENTS)
def test_layers_of_students_equal_their_definition(kernels: Kernels, name: str) -> None:
    layer = make_layer(OF_STUDENTS[name], 1)
    np.testing.assert_array_equal(kernels.convolve(layer), convolve_in_numpy(layer))


@needs_gcc
def test_random_layers_equal_their_definition(kernels: Kernels, without_floats: Kernels) -> None:
    kinds = set()
    for seed in range(150):
        layer = make_layer(make_random_shape(seed), seed)
        kinds.add(layer.shape.kernel)
        compiled = without_floats if seed % 4 == 0 else kernels
        expected = convolve_in_numpy(layer)
        np.testing.assert_array_equal(compiled.convolve(layer), expected, str(layer.shape))
    assert kinds == {"convolve", "convolve_channel"}


def make_onnx(layer: Layer) -> onnx.ModelProto:
    """Make a QLinearConv whose steps are those of the layer: 1 for inputs and outputs."""
    shape = layer.shape
    bottom = (shape.out_height - 1) * shape.stride_height + (
        shape.kernel_height - 1
    ) * shape.dilation_height
    right = (shape.out_width - 1) * shape.stride_width + (
        shape.kernel_width - 1
    ) * shape.dilation_width
    below = max(0, bottom + 1 - shape.in_height - shape.pad_top)
    beyond = max(0, right + 1 - shape.in_width - shape.pad_left)
    pads = [shape.pad_top, shape.pad_left, below, beyond]
    constants = {
        "one": np.float32(1),
        "in_zero": np.uint8(layer.input_zero),
        "weights": layer.weights,
        "steps": layer.scale,
        "no_shift": np.zeros(shape.out_channels, np.int8),
        "out_zero": np.uint8(layer.output_zero),
        "bias": layer.bias if layer.bias is not None else np.zeros(shape.out_channels, np.int32),
    }
    node = helper.make_node(
        "QLinearConv",
        ["codes", "one", "in_zero", "weights", "steps", "no_shift", "one", "out_zero", "bias"],
        ["out"],
        strides=[shape.stride_height, shape.stride_width],
        dilations=[shape.dilation_height, shape.dilation_width],
        pads=pads,
        group=shape.groups,
    )
    codes = helper.make_tensor_value_info("codes", TensorProto.UINT8, [1, *layer.codes.shape])
    out = helper.make_tensor_value_info("out", TensorProto.UINT8, None)
    made = [
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    ]
    graph = helper.make_graph([node], "layer", [codes], [out], made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@needs_gcc
def test_layers_equal_onnx_runtime(kernels: Kernels) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for seed in range(30):
        layer = make_layer(make_random_shape(seed), seed)
        # Without VNNI, ONNX Runtime adds pairs of products in 16 bits: these stay within.
        layer = replace(layer, weights=layer.weights // 2)
        session = onnxruntime.InferenceSession(make_onnx(layer).SerializeToString(), options)
        (expected,) = session.run(None, {"codes": layer.codes[None]})
        expected_CHW = np.asarray(expected)[0]
        np.testing.assert_array_equal(kernels.convolve(layer), expected_CHW, str(layer.shape))


@needs_gcc
def test_a_layer_may_overwrite_its_input(kernels: Kernels) -> None:
    for name in (
        "isotropic's depthwise",
        "isotropic's pointwise",
        "cp_mobile's both strides",
        "dsmn's first",
        "tf_sepnet's second",
        "tf_sepnet's second, odd",
    ):
        layer = make_layer(OF_STUDENTS[name], 1)
        np.testing.assert_array_equal(
            kernels.convolve(layer, in_place=True), convolve_in_numpy(layer)
        )


@needs_gcc
def test_a_table_changes_the_codes_before_a_depthwise_layer_reads_them(kernels: Kernels) -> None:
    table = np.random.default_rng(0).permutation(256).astype(np.uint8)
    for name in (
        "isotropic's depthwise",
        "bcbl's stride right",
        "dsmn's single",
        "dsmn's down, small",
    ):
        layer = make_layer(OF_STUDENTS[name], 1)
        changed = replace(layer, codes=table[layer.codes])
        np.testing.assert_array_equal(kernels.convolve(layer, table), convolve_in_numpy(changed))


@needs_gcc
def test_sums_are_rounded_half_to_even_and_never_leave_the_codes(
    kernels: Kernels, without_floats: Kernels
) -> None:
    rng = np.random.default_rng(0)
    extremes = [0, 1, -1, 2**24 + 1, -(2**24) - 1, 2**31 - 1, -(2**31)]
    powers = 2.0 ** np.array([-40, -24, -16, -9, -8, -3, -1, 0, 4, 100])
    usual, small = rng.uniform(1e-5, 0.3, 40), rng.uniform(1e-6, 1e-5, 20)
    for scale in np.concatenate([powers, usual, small]).astype(np.float32):
        # Sums around each tie, and anywhere.
        ties = np.rint((rng.integers(-260, 260, 400) + 0.5) / float(scale))
        near = np.clip(ties + rng.integers(-1, 2, 400), -(2**31), 2**31 - 1).astype(np.int64)
        anywhere = rng.integers(-(2**31), 2**31, 100)
        sums = np.concatenate([near, extremes, anywhere]).astype(np.int32)
        for zero in (0, 131, 255):
            expected = quantise_in_numpy(sums, scale, zero)
            for compiled in (kernels, without_floats):
                codes = compiled.quantise(sums, scale, zero)
                np.testing.assert_array_equal(codes, expected, f"{scale} {zero}")


@needs_gcc
def test_a_linear_layer_leaves_its_sums_unrounded(kernels: Kernels) -> None:
    layer = make_layer(OF_STUDENTS["rounded linear"], 1)
    assert layer.bias is not None
    sums = layer.weights[:, :, 0, 0].astype(np.int32) @ (
        layer.codes.ravel().astype(np.int32) - layer.input_zero
    )
    expected = (sums + layer.bias).astype(np.float32) * layer.scale
    np.testing.assert_array_equal(kernels.compute_linear(layer), expected)
