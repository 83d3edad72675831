"""Random integer layers, and what they give by their definition."""

from dataclasses import dataclass

import numpy as np

from students.c.kernels import ConvolutionShape


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution with its constants and an input [channels][height][width]."""

    shape: ConvolutionShape
    weights: np.ndarray
    bias: np.ndarray | None
    scale: np.ndarray
    codes: np.ndarray
    input_zero: int
    output_zero: int


def make_layer(shape: ConvolutionShape, seed: int) -> Layer:
    """Make a layer of random integers, whose outputs cover 0...255 and beyond."""
    rng = np.random.default_rng(seed)
    sizes = (shape.in_channels // shape.groups, shape.kernel_height, shape.kernel_width)
    n_products = int(np.prod(sizes))
    bias = rng.integers(-9999, 9999, shape.out_channels, dtype=np.int32)
    spread = rng.uniform(0.5, 2, shape.out_channels) / (70 * np.sqrt(n_products))
    return Layer(
        shape=shape,
        weights=rng.integers(-128, 128, (shape.out_channels, *sizes), dtype=np.int8),
        bias=bias if seed % 4 else None,
        scale=spread.astype(np.float32),
        codes=rng.integers(
            0, 256, (shape.in_channels, shape.in_height, shape.in_width), dtype=np.uint8
        ),
        input_zero=int(rng.choice([0, 117, 255])),
        output_zero=int(rng.choice([0, 131, 255])),
    )


def convolve_in_numpy(layer: Layer) -> np.ndarray:
    """Compute a layer's codes [channels][height][width] from its definition."""
    shape, out_group = layer.shape, layer.shape.out_channels // layer.shape.groups
    reach_h = (shape.out_height - 1) * shape.stride_height + 1
    reach_w = (shape.out_width - 1) * shape.stride_width + 1
    window_h = reach_h + (shape.kernel_height - 1) * shape.dilation_height
    window_w = reach_w + (shape.kernel_width - 1) * shape.dilation_width
    size = (shape.in_channels, shape.in_height + window_h, shape.in_width + window_w)
    padded = np.zeros(size, np.int64)
    rows = slice(shape.pad_top, shape.pad_top + shape.in_height)
    columns = slice(shape.pad_left, shape.pad_left + shape.in_width)
    padded[:, rows, columns] = layer.codes.astype(np.int64) - layer.input_zero
    sums = np.zeros((shape.out_channels, shape.out_height, shape.out_width), np.int64)
    if layer.bias is not None:
        sums += layer.bias[:, None, None]
    for o, i, y, x in np.ndindex(layer.weights.shape):
        top, left = y * shape.dilation_height, x * shape.dilation_width
        seen = padded[o // out_group * layer.weights.shape[1] + i]
        seen = seen[
            top : top + reach_h : shape.stride_height, left : left + reach_w : shape.stride_width
        ]
        sums[o] += int(layer.weights[o, i, y, x]) * seen
    return quantise_in_numpy(sums, layer.scale[:, None, None], layer.output_zero)


def quantise_in_numpy(sums: np.ndarray, scale: np.ndarray, zero: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        rounded = np.rint(sums.astype(np.int32).astype(np.float32) * scale)
    return (np.clip(rounded, -zero, 255 - zero) + zero).astype(np.uint8)


def make_shape(
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> ConvolutionShape:
    """Make a shape; pads are top, left, bottom, right, as in ONNX."""
    out = [
        (each + before + after - step * (taps - 1) - 1) // jump + 1
        for each, before, after, step, taps, jump in zip(
            size, pads[:2], pads[2:], dilation, kernel, stride, strict=True
        )
    ]
    return ConvolutionShape(
        in_channels=channels[0], in_height=size[0], in_width=size[1],
        out_channels=channels[1], out_height=out[0], out_width=out[1],
        kernel_height=kernel[0], kernel_width=kernel[1],
        stride_height=stride[0], stride_width=stride[1],
        pad_top=pads[0], pad_left=pads[1],
        dilation_height=dilation[0], dilation_width=dilation[1], groups=groups,
    )  # fmt: skip


OF_STUDENTS = {
    "isotropic's patches": make_shape((1, 8), (256, 65), (5, 5), stride=(5, 5)),
    "isotropic's depthwise": make_shape((6, 6), (51, 13), (3, 3), pads=(1, 1, 1, 1), groups=6),
    "isotropic's pointwise": make_shape((64, 64), (51, 13), (1, 1)),
    "isotropic_v2's patches": make_shape((1, 8), (256, 65), (8, 8), stride=(8, 8)),
    "isotropic_v2's depthwise": make_shape((6, 6), (32, 8), (4, 4), pads=(1, 1, 2, 2), groups=6),
    "cp_mobile's first": make_shape((1, 8), (64, 32), (3, 3), stride=(2, 2), pads=(1, 1, 1, 1)),
    "cp_mobile's second": make_shape((8, 32), (32, 16), (3, 3), stride=(2, 2), pads=(1, 1, 1, 1)),
    "cp_mobile's both strides": make_shape((4, 4), (64, 16), (3, 3), stride=(2, 2), pads=(1, 1, 1, 1), groups=4),
    "cp_mobile's stride down": make_shape((4, 4), (32, 8), (3, 3), stride=(2, 1), pads=(1, 1, 1, 1), groups=4),
    "bcbl's stride right": make_shape((4, 4), (64, 17), (3, 3), stride=(1, 2), pads=(1, 1, 1, 1), groups=4),
    "cp_mobile's last": make_shape((168, 10), (16, 8), (1, 1)),
    "dsmn's first": make_shape((2, 16), (44, 64), (1, 1)),
    "dsmn's single": make_shape((4, 4), (22, 64), (1, 1), groups=4),
    "dsmn's down": make_shape((4, 4), (44, 32), (3, 1), pads=(2, 0, 2, 0), dilation=(2, 2), groups=4),
    "dsmn's right": make_shape((4, 4), (44, 32), (1, 3), pads=(0, 2, 0, 2), dilation=(2, 2), groups=4),
    "dsmn's down, small": make_shape((4, 4), (2, 8), (3, 1), pads=(2, 0, 2, 0), dilation=(2, 2), groups=4),
    "dsmn's groups": make_shape((16, 8), (11, 32), (1, 1), groups=8),
    "dsmn's attention": make_shape((1, 1), (1, 16), (1, 3), pads=(0, 1, 0, 1)),
    "tf_sepnet's second": make_shape((5, 20), (32, 16), (3, 3), stride=(2, 2), pads=(1, 1, 1, 1), groups=5),
    "tf_sepnet's second, odd": make_shape((3, 9), (19, 13), (3, 3), stride=(2, 2), pads=(1, 1, 1, 1), groups=3),
    "tf_sepnet's down": make_shape((4, 4), (32, 8), (3, 1), pads=(1, 0, 1, 0), groups=4),
    "tf_sepnet's right": make_shape((4, 4), (32, 8), (1, 3), pads=(0, 1, 0, 1), groups=4),
    "full": make_shape((5, 7), (9, 11), (3, 3), pads=(1, 1, 1, 1)),
    "rounded linear": make_shape((224, 100), (1, 1), (1, 1)),
}  # fmt: skip


def make_random_shape(seed: int) -> ConvolutionShape:
    """Make any shape that a convolution may have; a third are depthwise."""
    rng = np.random.default_rng(seed)

    def pick(low: int, high: int) -> tuple[int, int]:
        first, second = rng.integers(low, high, 2)
        return int(first), int(second)

    kernel, stride, dilation = pick(1, 6), pick(1, 4), pick(1, 4)
    pads = (*pick(0, 3), *pick(0, 3))
    least = [step * (taps - 1) + 1 for step, taps in zip(dilation, kernel, strict=True)]
    more = pick(0, 20)
    size = (least[0] + more[0], least[1] + more[1])
    n_groups, (of_in, of_out) = int(rng.integers(2, 5)), pick(1, 5)
    channels, groups = [
        ((n_groups, n_groups), n_groups),
        ((n_groups * of_in, n_groups * of_out), n_groups),
        ((of_in, of_out), 1),
    ][seed % 3]
    return make_shape(
        channels, size, kernel, stride=stride, pads=pads, dilation=dilation, groups=groups
    )  # type: ignore[arg-type]
