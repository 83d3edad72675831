"""Branches side by side, which become one convolution for use (B clips, C channels, O outputs, F mel bands, T frames).

A network with branches is taught with them. Whoever counts, exports or quantises it takes what
`fold_branches` returns: the same function of its inputs, with fewer parameters.
"""

import copy
from collections.abc import Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from students.convolution import Side, find_padding, make_convolution

Model = TypeVar("Model", bound=nn.Module)


class Branches(nn.Module):
    """Convolutions of several kernels on the same inputs, each with a norm, whose results are summed.

    If the results have the shape of the inputs, a norm of the inputs themselves is one more branch.

    Source: Ding et al. 2021, RepVGG, arXiv:2101.03697, with kernels of several shapes as in Ding et al.
    2019, ACNet, arXiv:1908.03930.

    Args:
        in_channels: C.
        out_channels: O.
        kernels: one for each branch; none is larger than the first.
        stride: stride of all branches, (mel bands, frames).
        groups: groups of all branches; C is a depthwise convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernels: Sequence[Side],
        *,
        stride: Side = (1, 1),
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernels[0], stride
        self.convolutions = nn.ModuleList(
            make_convolution(in_channels, out_channels, kernel, stride=stride, groups=groups)
            for kernel in kernels
        )
        keeps_shape = in_channels == out_channels and stride == (1, 1)
        self.inputs = nn.BatchNorm2d(out_channels) if keeps_shape else None

    def forward(self, maps_BCFT: Tensor) -> Tensor:
        """Return the sum of all branches, [B, O, F, T]."""
        first, *others = (branch(maps_BCFT) for branch in self.convolutions)
        for result in others:
            first = first + result
        return first if self.inputs is None else first + self.inputs(maps_BCFT)

    @torch.no_grad()
    def fold(self) -> nn.Conv2d:
        """Return one convolution with a bias that computes what all branches do in evaluation."""
        branches = self._list_branches()
        largest, _ = branches[0]
        # Its weights are computed: to draw some first would move the randomness of whoever counts.
        folded = cast(
            nn.Conv2d,
            nn.utils.skip_init(
                nn.Conv2d,
                largest.in_channels,
                largest.out_channels,
                self.kernel,
                stride=self.stride,
                padding=find_padding(self.kernel),
                groups=largest.groups,
                device=largest.weight.device,
                dtype=largest.weight.dtype,
            ),
        )
        # In float64, as float32 would round each branch before the sum.
        parts = [_fold_norm(convolution.weight, norm) for convolution, norm in branches]
        if self.inputs is not None:
            parts.append(_fold_norm(_make_identity(largest), self.inputs))
        padded = [_pad_kernel(weight, self.kernel) for weight, _ in parts]
        folded.weight.copy_(torch.stack(padded).sum(0))
        assert folded.bias is not None
        folded.bias.copy_(torch.stack([bias for _, bias in parts]).sum(0))
        return folded.train(self.training)

    def _list_branches(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        pairs = (tuple(cast(nn.Sequential, each)) for each in self.convolutions)
        return [cast(tuple[nn.Conv2d, nn.BatchNorm2d], pair) for pair in pairs]


def fold_branches(model: Model) -> Model:
    """Return the network that is used: branches are one convolution, with norms as in evaluation.

    Args:
        model: any network; is not changed. One without branches is returned as it is.
    """
    paths = [path for path, module in model.named_modules() if isinstance(module, Branches)]
    if not paths:
        return model
    copied = copy.deepcopy(model)
    for path in paths:
        branches = copied.get_submodule(path)
        assert isinstance(branches, Branches)
        copied.set_submodule(path, branches.fold())
    return copied


def _fold_norm(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of a convolution with the norm behind it, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return fuse_conv_bn_weights(
        weight.double(),
        None,
        norm.running_mean.double(),
        norm.running_var.double(),
        norm.eps,
        norm.weight.double(),
        norm.bias.double(),
    )


def _make_identity(convolution: nn.Conv2d) -> Tensor:
    """Return the weight of a 1x1 convolution that returns its inputs."""
    per_group = convolution.in_channels // convolution.groups
    one = torch.eye(per_group, dtype=torch.float64, device=convolution.weight.device)
    return one.repeat(convolution.groups, 1)[:, :, None, None]


def _pad_kernel(weight: Tensor, kernel: Side) -> Tensor:
    """Return a weight with zeros around it, so that it has the size of the larger kernel."""
    bands, frames = (
        (large - small) // 2 for large, small in zip(kernel, weight.shape[2:], strict=True)
    )
    return functional.pad(weight, (frames, frames, bands, bands))
