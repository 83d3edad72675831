"""Which kernel of kernels.h computes a convolution, and how much scratch it needs."""

from dataclasses import dataclass
from typing import Literal

Kernel = Literal["convolve_pointwise", "convolve_channel", "convolve_channels", "convolve"]
BLOCK, SMALLEST_BLOCK, BLOCK_PAIRS = 64, 32, 2048
"""How many positions are laid out at a time: the numbers of kernels.h."""
_INT16 = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvolutionShape:
    """The sizes of a convolution, as in the struct `convolution` of kernels.h."""

    in_channels: int
    in_height: int
    in_width: int
    out_channels: int
    out_height: int
    out_width: int
    kernel_height: int
    kernel_width: int
    stride_height: int = 1
    stride_width: int = 1
    pad_top: int = 0
    pad_left: int = 0
    dilation_height: int = 1
    dilation_width: int = 1
    groups: int = 1

    @property
    def kernel(self) -> Kernel:
        """The function that computes it."""
        if self.groups > 1 and self.groups == self.in_channels:
            strided_and_dilated = any(
                each.stride > 1 and each.dilation > 1 for each in (self._rows, self._columns)
            )
            if self.out_channels == self.groups:
                return "convolve" if strided_and_dilated else "convolve_channel"
            if self._shrinks and not strided_and_dilated:
                return "convolve_channels"
        return (
            "convolve_pointwise" if self.groups == 1 and self._sees_single_positions else "convolve"
        )

    def count_scratch_bytes(self) -> int:
        """Return the bytes of scratch, aligned to 4, that its kernel needs."""
        if self.kernel in ("convolve_channel", "convolve_channels"):
            rows, columns = self._rows, self._columns
            if self._sees_single_positions:
                return 0
            # The kernel chooses which direction is laid out in pairs.
            laid = _INT16 * max(_count_channel(rows, columns), _count_channel(columns, rows))
            copied = _round_up(self.in_height * self.in_width, 4)
            return laid + copied * (self.kernel == "convolve_channels")
        inputs = self.in_channels // self.groups * self.kernel_height * self.kernel_width
        pairs = -(-inputs // 2)
        block = max(SMALLEST_BLOCK, min(BLOCK, BLOCK_PAIRS // pairs // 4 * 4))
        block = min(block, _round_up(self.out_height * self.out_width, 4))
        return _INT16 * pairs * (4 + 2 * block)

    @property
    def _shrinks(self) -> bool:
        """Whether the outputs of a channel take no more bytes than the channel, so that they can lie there."""
        outputs = self.out_channels // self.in_channels
        return outputs * self.out_height * self.out_width <= self.in_height * self.in_width

    @property
    def _sees_single_positions(self) -> bool:
        plain = (self.kernel_height, self.kernel_width, self.stride_height, self.stride_width)
        same = (self.in_height, self.in_width) == (self.out_height, self.out_width)
        return plain == (1, 1, 1, 1) and same and not self.pad_top + self.pad_left

    @property
    def _rows(self) -> "_Direction":
        sizes = (self.in_height, self.out_height, self.kernel_height)
        return _Direction(*sizes, self.stride_height, self.dilation_height, self.pad_top)

    @property
    def _columns(self) -> "_Direction":
        sizes = (self.in_width, self.out_width, self.kernel_width)
        return _Direction(*sizes, self.stride_width, self.dilation_width, self.pad_left)


@dataclass(frozen=True, slots=True)
class _Direction:
    """The struct `direction` of kernels.h."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    pad: int


def _count_channel(across: _Direction, along: _Direction) -> int:
    """Return the int16 of a channel's weights and values, as `plan_depthwise` of kernels.h does."""
    tap_lines = (across.kernel + across.stride + 1) // 2
    outputs_of_phase = -(-across.outputs // across.dilation)
    steps = -(-outputs_of_phase // 2)
    last_line = (across.inputs + across.pad - 1) // across.dilation // 2
    lines = max((steps - 1) * across.stride + tap_lines, last_line + 1)
    reach = (along.kernel - 1) * along.dilation // along.stride
    last_slot = (along.inputs + along.pad - 1) // along.stride
    part = max(_round_up(along.outputs, 4) + reach, last_slot + 1)
    return 4 * tap_lines * along.kernel + 2 * across.dilation * lines * part * along.stride


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step
