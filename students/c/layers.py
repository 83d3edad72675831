"""From a layer of the graph to one that kernels.h computes."""

import numpy as np

from students.c.expressions import IntegerLayer
from students.c.graph import Grid, Layer, UnknownOperator
from students.c.kernels import ConvolutionShape

LARGEST_SUM = 2**31
"""Sums are int32."""


def make_integer_layer(name: str, layer: Layer, given: Grid, rounded: Grid | None) -> IntegerLayer:
    """Return a layer with what its sums are multiplied with.

    Args:
        name: its name in C.
        layer: the layer.
        given: the grid of its input.
        rounded: the grid of its output; None leaves its sums in float32.

    Raises:
        UnknownOperator: its sums could be beyond int32.
    """
    _check_sums(layer)
    # In this order ONNX Runtime rounds them.
    scale_O = np.float32(given.scale) * layer.weight_scale
    if rounded is not None:
        scale_O = scale_O / np.float32(rounded.scale)
    return IntegerLayer(
        name=name,
        parameters=name,
        path=layer.path,
        shape=_find_shape(layer),
        weights=layer.weights,
        bias=layer.bias,
        scale=scale_O.astype(np.float32),
        input_zero=given.zero,
        output_zero=rounded.zero if rounded else 0,
    )


def _find_shape(layer: Layer) -> ConvolutionShape:
    in_channels, in_height, in_width = layer.in_shape
    out_channels, out_height, out_width = layer.out_shape
    kernel_height, kernel_width = layer.weights.shape[2:]
    return ConvolutionShape(
        in_channels=in_channels,
        in_height=in_height,
        in_width=in_width,
        out_channels=out_channels,
        out_height=out_height,
        out_width=out_width,
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        stride_height=layer.strides[0],
        stride_width=layer.strides[1],
        pad_top=layer.pads[0],
        pad_left=layer.pads[1],
        dilation_height=layer.dilations[0],
        dilation_width=layer.dilations[1],
        groups=layer.groups,
    )


def _check_sums(layer: Layer) -> None:
    weights_OI = np.abs(layer.weights.astype(np.int64)).reshape(len(layer.weights), -1)
    # Kernels may take the input's zero off apart from the codes.
    largest_O = 2 * 255 * weights_OI.sum(axis=1)
    if layer.bias is not None:
        largest_O += np.abs(layer.bias.astype(np.int64))
    if largest_O.max() >= LARGEST_SUM:
        raise UnknownOperator(
            "Gemm" if layer.is_linear else "Conv",
            layer.name,
            f"sums of {layer.path} may be {largest_O.max():,}, expected less than {LARGEST_SUM:,}: its "
            "input hardly varies, so steps are too small for its bias",
        )
