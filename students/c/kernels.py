"""Which kernel of kernels.h computes a convolution, and how much scratch it needs."""

from dataclasses import dataclass
from typing import Literal

Kernel = Literal["convolve_pointwise", "convolve_depthwise", "convolve"]


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
        if self.groups > 1 and self.groups == self.in_channels == self.out_channels:
            return "convolve_depthwise"
        plain = (self.kernel_height, self.kernel_width, self.stride_height, self.stride_width) == (1, 1, 1, 1)
        same = (self.in_height, self.in_width) == (self.out_height, self.out_width)
        if plain and same and self.groups == 1 and not self.pad_top and not self.pad_left:
            return "convolve_pointwise"
        return "convolve"

    @property
    def works_in_place(self) -> bool:
        """Whether the output may begin where a contiguous input begins."""
        if self.kernel == "convolve_depthwise":
            return self.out_height * self.out_width <= self.in_height * self.in_width
        return self.kernel == "convolve_pointwise" and self.out_channels <= self.in_channels

    def count_scratch_bytes(self) -> int:
        """Return the bytes of scratch (aligned to 4) that its kernel needs."""
        if self.kernel == "convolve_pointwise":
            return 2 * self.in_channels
        return self.in_height * self.in_width if self.kernel == "convolve_depthwise" else 0
